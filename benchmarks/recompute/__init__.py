"""Do a run's verdicts follow from its completions, and from what was measured of its directions?

``python -m benchmarks.recompute RUN_FOLDER`` recomputes every verdict of ``verdicts.json`` from
``completions.parquet`` and the margins in ``manifest.json``, prints both side by side, and exits
with 1 if any differs, or if none could be recomputed.

It is a second implementation: nothing is imported from steering_reliability. Wilson intervals and
exact McNemar come from statsmodels; Newcombe's intervals, the bootstrap and the permutation tests
are written down here again. Bounds, estimates, counts and outcomes must agree to 1e-9. The
bootstrap of a slope decides, so it is drawn again with the seed that the run's documentation
names; p-values of permutation tests decide nothing and are drawn with another seed, so they must
agree within the error of the draws. Scores are taken as the run made them, and so are a
direction's norms and the agreements of its pairs, which ``direction_is_real`` is recomputed from:
measuring them again would take the model. How many prompts would settle a claim is not recomputed.
"""

"""The parts of a level's YAML file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from steering_reliability.cells import Intervention
from steering_reliability.config.layers import read_layer
from steering_reliability.config.reading import NonEmpty, Settings, refuse_repeats, wrong
from steering_reliability.judge_names import EXPECTED, RULES, is_judge


def _read_per_split(value: object) -> int | Literal["all"]:
    if value == "all":
        return "all"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise wrong(value, "a whole number of at least 1, or all")


class SplitSource(Settings):
    """Where a split's prompts come from: a file, or a ``datasets`` source with its columns."""

    source: NonEmpty
    columns: dict[str, str] = Field(default_factory=dict)
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _a_file_name_is_short_for_a_source(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"source": value}
        if not isinstance(value, dict | SplitSource):
            raise wrong(value, "a file name, or a mapping with the keys source, columns, limit")
        return value


class PromptSettings(Settings):
    """The level's prompts.

    Attributes:
        folder: where the splits' files are; relative to the level's YAML file.
        per_split: prompts of each split that the level evaluates, from the first on, or ``"all"``.
        splits: source of each split by name.
    """

    folder: NonEmpty = "../prompts"
    per_split: Annotated[int | Literal["all"], PlainValidator(_read_per_split)]
    splits: dict[str, SplitSource] = Field(min_length=1)

    @field_validator("splits")
    @classmethod
    def _split_names_are_words(cls, splits: dict[str, SplitSource]) -> dict[str, SplitSource]:
        for name in splits:
            if not name.isidentifier():
                raise wrong(name, "a name of letters, digits and underscores")
        return splits


class PrefixPair(Settings):
    """Two beginnings of a response to the same prompt; their difference is the direction."""

    refusal: NonEmpty
    compliance: NonEmpty


class LearnFrom(Settings):
    """The prompts that the direction is learned from: the last so many of a split."""

    split: str = "harm_train"
    last: int = Field(default=64, ge=1)


class DirectionSettings(Settings):
    """How the direction is learned, or where it is.

    Attributes:
        method: ``contrastive_prefix``.
        file: a saved direction to use in place of a learned one; relative to the level's YAML
            file, ``{layer}`` in it stands for the layer.
        pairs: prefix pairs; the package's own where there are none.
        placebo: pairs of texts that differ in nothing that matters, which the agreement of
            ``pairs`` is held against; the package's own where there are none.
        benign_contrast: a file in the prompts' folder, apart from the level's splits; the report
            tells how much of the direction the same prefixes explain on its first prompts.
        learn_from: the learning prompts; with ``file``, those that placebo pairs and a screen
            are read on.
        at: tokens whose activations are compared.
        alpha_unit: one unit of alpha as a fraction of the median residual norm; the model
            profile's where there is none.
    """

    method: Literal["contrastive_prefix"] = "contrastive_prefix"
    file: NonEmpty | None = None
    pairs: list[PrefixPair] | None = Field(default=None, min_length=1)
    placebo: list[tuple[NonEmpty, NonEmpty]] | None = Field(default=None, min_length=8)
    benign_contrast: NonEmpty | None = None
    learn_from: LearnFrom = LearnFrom()
    at: Literal["response", "last_prompt"] = "response"
    alpha_unit: float | None = Field(default=None, gt=0, le=1)

    @field_validator("file")
    @classmethod
    def _only_the_layer_is_filled_in(cls, file: str | None) -> str | None:
        if file is not None and set("{}") & set(file.replace("{layer}", "")):
            raise wrong(file, "a file's name; only {layer} may stand in braces")
        return file


class GenerationSettings(Settings):
    """How completions are generated.

    Attributes:
        max_new_tokens: most tokens of a completion.
        temperature: 0 is greedy decoding.
        top_p: share of the probability that is sampled from.
        samples: completions per prompt and cell.
        seed: of sampling.
        positions: ``response`` steers the last prompt token and every generated one, ``all``
            the prompt too.
        slots: rows of a batch; the model profile's where there is none.
    """

    max_new_tokens: int = Field(default=48, ge=1)
    temperature: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    top_p: float = Field(default=1.0, gt=0, le=1)
    samples: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)
    positions: Literal["response", "all"] = "response"
    slots: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _greedy_has_one_sample(self) -> GenerationSettings:
        if self.temperature == 0 and self.samples > 1:
            raise wrong(
                self.samples,
                "1 with temperature 0, where every sample is the same; raise the temperature",
                key="samples",
            )
        return self


class ScoringSettings(Settings):
    """Who judges completions.

    Attributes:
        refusal: ``rules``, ``module:function`` or ``hf:MODEL[#LABEL]``; modules are looked for
            in the folder of the level's YAML file too, folders are relative to it.
    """

    refusal: NonEmpty = RULES

    @field_validator("refusal")
    @classmethod
    def _is_a_judge(cls, refusal: str) -> str:
        if not is_judge(refusal):
            raise wrong(refusal, EXPECTED)
        return refusal


class ControlSettings(Settings):
    """Directions that should not work, in place of the learned one at every tested layer.

    Attributes:
        random: random directions.
        shuffled: directions from half-flipped pairs.
        reversed: whether the direction is also added with its sign turned.
        alphas: the alphas of adding in question; every positive one of the level where none are
            given.
        ablate_alphas: the alphas of ablating in question, at which the random directions take
            away as much as the learned one would.
        split: the split whose prompts they run on.
    """

    random: int = Field(default=0, ge=0)
    shuffled: int = Field(default=0, ge=0)
    reversed: bool = False
    alphas: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = None
    ablate_alphas: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=list
    )
    split: str = "harm_test"

    @property
    def names(self) -> list[str]:
        """Names of the control directions."""
        names = [f"random-{number}" for number in range(1, self.random + 1)]
        names += [f"shuffled-{number}" for number in range(1, self.shuffled + 1)]
        return names + ["reversed"] * self.reversed

    def names_at(self, intervention: Intervention, alpha: float) -> list[str]:
        """Names of those that are run beside a cell."""
        if intervention == "ablate":
            random = [name for name in self.names if name.startswith("random-")]
            return random if alpha in self.ablate_alphas else []
        asked = alpha > 0 if self.alphas is None else alpha in self.alphas
        return self.names if asked else []


class DecisionSettings(Settings):
    """What the level decides for those that come after it.

    Attributes:
        chooses: ``layer``, or ``operating_point`` (layer, intervention and alpha, for raising
            refusal and for lowering it).
        cost_weight: weight of the benign cost against the effect on harm_test.
        screen: harmful and benign prompts each that the layers are screened on without
            generating, to tell whether that would have chosen the same; 0 for none.
    """

    chooses: Literal["layer", "operating_point"]
    cost_weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    screen: int = Field(default=0, ge=0)


class OperatingPoint(Settings):
    """A steered cell, where no level has chosen one."""

    layer: Annotated[int | float, PlainValidator(read_layer)]
    intervention: Literal["add", "ablate"] = "add"
    alpha: float = Field(gt=0, allow_inf_nan=False)


class ConfirmSettings(Settings):
    """Operating points that an earlier level chose, run once more on prompts it never saw.

    Attributes:
        level: the level that chose them.
        split: the split kept for this; the grid is not run on it.
        random: random directions that each operating point is ranked among.
        default: what is run while there is no choice.
    """

    level: NonEmpty = Field(alias="from")
    split: str = "harm_confirm"
    random: int = Field(default=19, ge=0)
    default: OperatingPoint


class PromptBaseline(Settings):
    """The unsteered model with another system prompt: what people would use in place of steering.

    Attributes:
        system_prompt: in place of the profile's.
        splits: the splits that it is run on.
    """

    system_prompt: NonEmpty
    splits: list[str] = Field(default=["harm_test", "benign"], min_length=1)


class ProbeSettings(Settings):
    """What is read off every steered cell of the grid by forcing texts, without generating.

    Attributes:
        prompts: prompts of each kind, the first of their splits; few are enough, since every one
            of them gives a number on a continuous scale.
        split: harmful prompts, for the whole-text log-odds of refusal.
        benign_split: benign prompts, for the change of the next token.
        benign_tokens: first response tokens that this change is averaged over.
        texts: plain texts whose perplexity is taken; the package's own where there are none.
    """

    prompts: int = Field(default=12, ge=5)
    split: str = "harm_test"
    benign_split: str = "benign"
    benign_tokens: int = Field(default=4, ge=1)
    texts: list[NonEmpty] | None = Field(default=None, min_length=5)


class SanitySettings(Settings):
    """How far the effect of the operating point that raises refusal hangs on what it should not.

    Attributes:
        split: the split that the checks are run on.
        prompts: prompts of each check, the first of the split, or ``"all"``.
        reordered: prompts that are generated once more in another order, the first of those; 0
            for none.
        prefix_pairs: pairs in other words, whose direction is put in place of the learned one;
            the package's own where there are none.
        system_prompt: another one than the profile's, under which the effect is measured too.
        temperature: of the sampled completions.
        seeds: one check with sampling each.
    """

    split: str = "harm_test"
    prompts: Annotated[int | Literal["all"], PlainValidator(_read_per_split)] = "all"
    reordered: int = Field(default=30, ge=0)
    prefix_pairs: list[PrefixPair] | None = Field(default=None, min_length=1)
    system_prompt: NonEmpty
    temperature: float = Field(default=0.7, gt=0, allow_inf_nan=False)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[1, 2, 3])

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        refuse_repeats(seeds)
        return seeds

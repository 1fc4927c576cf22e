"""What a level does, with no pytest in it.

``plan`` says what a level consists of, before any model is loaded; ``work`` generates and scores
it; ``finish`` writes its run folder from what the store holds.
"""

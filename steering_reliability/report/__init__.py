"""What a run shows people: plots, a self-contained page, examples and terminal lines.

Nothing here generates, scores or judges; it words and draws what a run folder already holds.
matplotlib is imported by ``plots`` and ``figures`` alone, so import those when they are needed.
"""

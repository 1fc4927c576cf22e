"""What a run leaves behind: stored completions, the run folder, summary tables.

`store` keeps completions (`records` is their form on disk, `owners` says who may generate them),
`summary` turns scores into tables, `run` writes and reads a run folder, `atomic` writes files.
Nothing is imported here: collecting tests must not pay for pandas.
"""

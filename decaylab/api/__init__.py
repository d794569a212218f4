"""decaylab in Python: the commands as functions, runs as objects with DataFrames and figures.

The names that users import are listed in `decaylab/__init__.py`.
"""

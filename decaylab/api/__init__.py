"""decaylab in Python: the commands as functions, runs as objects with DataFrames and figures.

commands              the functions, generated; declaring and running call the commands
results, findings     what they return: a run, a plan, how files are read
frames, columns       rollouts and tokens as DataFrames, and what each column holds
drawing               figures, tables, the token view, the report
inputs                what a user may give as a policy or as problems
divergences, selectors, estimates, answers, engines    what a researcher imports from other packages

`decaylab/__init__.py` lists the names that ``import decaylab as dl`` offers. Imports everything
but the command line.
"""

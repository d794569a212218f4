"""What runs in the sandboxes: the program's side, the judge's side, and the data between them.

Nothing here imports decaylab, which is not there: the folder alone is mounted. Hence the relative
imports.
"""

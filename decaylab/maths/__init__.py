"""Numbers in, numbers out: divergences, selectors, means and shares with intervals over problems.

Reads no file and loads no model. Imports errors only.
"""

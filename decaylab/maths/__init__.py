"""Numbers in, numbers out: divergences, selectors, means and shares with intervals over problems.
No file, no model.

Imports errors alone.
"""

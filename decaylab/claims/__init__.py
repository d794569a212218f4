"""Which claims hold on a pair, by printed rules on intervals; the advice on N; the summary.

Imports runs and what stands below.
"""

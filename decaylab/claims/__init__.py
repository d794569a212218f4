"""Which claims hold on a pair, by stated rules on intervals; the advice; the summary.

Imports runs and the rooms above it in rooms.toml.
"""

"""Run folders and their tables: atomic writing, reading, regrading, finding.

Imports policies and the rooms above it in rooms.toml.
"""

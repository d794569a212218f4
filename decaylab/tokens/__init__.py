"""Student and teacher on the same tokens: scoring, storage, token categories.

Imports rollouts, runs and the rooms above them in rooms.toml.
"""

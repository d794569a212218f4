"""Engines, and the rollouts and continuations they sample, part by part.

Imports runs, policies and the rooms above them in rooms.toml.
"""

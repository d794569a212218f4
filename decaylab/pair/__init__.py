"""A pair and its checkpoints: found, loaded and checked before a command starts.

Imports rollout_files and the packages below it.
"""

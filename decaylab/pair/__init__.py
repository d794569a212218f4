"""A pair and its checkpoints, loaded, addressed and checked before anything starts.

Imports rollout_files and what stands below.
"""

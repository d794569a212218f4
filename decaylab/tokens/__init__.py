"""Student and teacher over the same tokens: scored, stored, sorted into categories.

Imports rollouts, runs and what stands below.
"""

"""Engines and what they write: rollouts and continuations, part by part.

Imports runs, policies and what stands below.
"""

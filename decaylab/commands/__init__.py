"""A module a command: options in, a measured run folder out, whose figures `drawing` draws.

Imports the trainer, the pair, the analyses and what stands below.
"""

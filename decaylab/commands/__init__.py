"""A module a command: options in, a finished run folder out.

Imports the trainer, the pair, the analyses and what stands below.
"""

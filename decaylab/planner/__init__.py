"""Estimates the memory and time of the commands before anything starts.

Imports the trainer, tables and the packages below them.
"""

"""Run folders and the tables in them: written whole or not at all, read, graded again, found.

Imports policies and what stands below.
"""

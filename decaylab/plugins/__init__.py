"""The user's own selectors, answer rules and problem sets.

origins     what is registered under which name, the file it comes from, what a run records of it
loading     imports them: plugin files and modules, entry points of installed packages

Imports errors only.
"""

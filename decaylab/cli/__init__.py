"""The command line: every option with its help, the config file, the commands.

Imports everything.
"""

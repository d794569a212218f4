"""Every option of a command: its type, its default, what it must hold, and which commands have it.

Imports problems, maths and printing.
"""

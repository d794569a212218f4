"""Every option: its type, default, allowed values, help text, and the commands that accept it.

Imports problems, maths and printing.
"""

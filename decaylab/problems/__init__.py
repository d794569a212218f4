"""What is asked, where it comes from, what a response says, and whether that is right.

Imports maths and errors.
"""

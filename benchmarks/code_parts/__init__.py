"""Parts of code_grading.py: changed programs, and the peer."""

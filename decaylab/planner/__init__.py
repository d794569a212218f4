"""What the commands will take of memory and time, before anything starts.

Imports the trainer, the commands and what stands below.
"""

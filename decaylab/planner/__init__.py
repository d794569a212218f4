"""What the commands will take of memory and time, before anything starts.

Imports the trainer, tables and what stands below.
"""

"""The published numbers, and the list of the paper's figures and tables.

Imports runs and what stands below.
"""

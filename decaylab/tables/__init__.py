"""What is printed of measurements: for the terminal, as Markdown, LaTeX and CSV.

Imports claims, paper, runs and what stands below.
"""

"""Figures and tables out of runs, the report, the token view: self-contained HTML.

Imports tables, figures and what stands below.
"""

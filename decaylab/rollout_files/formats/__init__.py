"""The formats of rollout files, one module per writer.

fields    reads and checks the values of a row
shapes    recognises rows by their columns and types
rollout   code shared by formats: replies, user columns, grades, tables inside a row
format    the definition of a format; registry: all formats, and which one a file has
columns   files of unknown writers, by usual column names
"""

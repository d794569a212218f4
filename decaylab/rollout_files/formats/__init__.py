"""The formats of rollout files, one module a writer.

fields    the values of a row, each checked as it is taken
shapes    how rows are recognised: columns and the types of their values
rollout   what formats share: the reply, a user's own columns, grades, tables inside a row
format    what a format is; registry: all there are, and which one a file has
columns   files of no known writer, by the usual names of columns
"""

"""A probe of a student while somebody else's loop trains it: the same problems again and again.

options     what can be set, and its defaults
asked       teacher, prompts and vocabulary, checked before anything is sampled
kept        the run folder, resumed step by step
notes       what a reader of the folder must know
reading     what a measurement returns: rows, numbers for a tracker, alarms
probe       `Probe`: sample, score, measure, write
"""

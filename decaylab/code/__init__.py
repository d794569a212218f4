"""Judges programs that a model wrote: the problem sets, the program in a response, and two
sandboxes in which the program and its tests run apart."""

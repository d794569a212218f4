"""On-policy distillation: draw, loss, step, validation, alarms, loop, in this reading order.

``machinery`` contains what is not part of the method. Imports the pair, tokens, rollouts and the
rooms above them in rooms.toml.
"""

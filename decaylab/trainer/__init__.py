"""On-policy distillation, to be read in one sitting: draw, loss, step, validation, alarms, loop.

What the method does not depend on is one level below, in ``machinery``. Imports the pair, tokens,
rollouts and what stands below.
"""

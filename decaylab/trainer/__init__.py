"""On-policy distillation: what a step draws, the loss, the step, validation, the loop, and the
state to go on from.

Imports the pair, tokens, rollouts and what stands below.
"""

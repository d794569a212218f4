"""The trainer's parts beside the method: adapters, sharding, processes, resuming, records.

Imports the pair, rollouts and the rooms above them; from the trainer itself only ``draw``.
"""

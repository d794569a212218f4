"""What the trainer needs beside the method: adapters, sharding, processes, resuming, records.

Imports the pair, rollouts and what stands below; of the trainer above it only what a draw is.
"""

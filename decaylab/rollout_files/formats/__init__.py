"""The formats of rollout files, one module a writer."""

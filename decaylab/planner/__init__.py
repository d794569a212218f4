"""Memory and time of a pair's commands, before anything starts."""

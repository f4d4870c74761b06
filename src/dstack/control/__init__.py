"""The verbs: pure decisions over frozen snapshots. No clock, no I/O, no randomness anywhere below this folder."""

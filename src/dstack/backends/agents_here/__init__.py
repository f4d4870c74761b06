"""Agent processes on this machine, a folder each: what backends whose instances live here have in common."""

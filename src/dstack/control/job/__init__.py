"""Jobs: one submission each, from waiting for a place to the last trace removed from its host."""

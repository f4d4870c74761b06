"""Fleets: how many instances they keep, and which of the idle ones go."""

"""Runs: how they follow from their jobs, how they are retried and stopped."""

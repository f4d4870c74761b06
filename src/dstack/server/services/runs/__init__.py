"""Runs: plan, submit, read, stop, delete, watch, explain."""

"""Stored logs of jobs."""

"""Fleets: plan, create, change, read, delete, explain."""

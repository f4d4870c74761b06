"""Chores: sweeps that find lost machines, retention that keeps the database small, and what becomes of orphans."""

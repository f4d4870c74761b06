"""The engine: due -> load -> decide -> commit -> dispatch, and nothing else."""

"""This machine as a backend: for the first run, for laptops and for tests."""

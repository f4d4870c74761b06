"""Reaching hosts over SSH: connections, checks before a host is taken in, the agent's installation."""

"""The host agent's protocol: `wire` (shared with the agent, Python 3.8) and `client` (used by the server)."""

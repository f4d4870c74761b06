"""The dstack server: HTTP API, engine, effects and store, wired together in `app`."""

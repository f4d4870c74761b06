"""Bodies of the HTTP API, apart from the domain types: what a request may say."""

# The version of the public API that requests and responses follow.
WIRE_VERSION = "0.22.5"

"""The numbers by which the system waits and gives up: small pure functions and named constants."""

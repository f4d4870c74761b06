"""The one renderer: domain values to JSON that is legal in the public API; what is new travels in `x_` fields."""

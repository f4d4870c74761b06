"""The small grammars: pure functions from what people write to plain numbers and names."""

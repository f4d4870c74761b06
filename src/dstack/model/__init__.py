"""The nouns: frozen Pydantic models without I/O."""

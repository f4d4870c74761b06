"""How answers look: text from the JSON of the API, without any I/O."""

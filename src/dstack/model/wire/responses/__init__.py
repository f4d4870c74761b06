"""Shapes of answers, for the document of the API alone: nothing is sent through them, tests hold answers to them."""

"""The history of the schema, one script a revision in `versions/`; expand first, contract a release later."""

# The newest revision; a test compares it with the scripts.
HEAD = "0004"

"""The history of the schema, one script a revision in `versions/`; expand first, contract a release later."""

# The newest revision; a test compares it with the scripts.
HEAD = "0007"
# The oldest revision whose servers still work on the newest schema: since then it was only expanded. A test compares
# both. A release that contracts raises it to the revision of the release before.
MIN_COMPATIBLE = "0005"

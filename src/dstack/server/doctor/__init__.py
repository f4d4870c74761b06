"""`dstack server doctor`: whether a server is well, seen from its database and its folder alone."""

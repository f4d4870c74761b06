"""Git repositories of others: their addresses, and getting at them without leaving credentials behind."""

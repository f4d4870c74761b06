"""What routes and effects do with the database: one module a noun."""

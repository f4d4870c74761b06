"""The database: tables, claims, loads and the commit of decisions. SQLite here; nothing that PostgreSQL could not do."""

"""The database: tables, claims, loads and the commit of decisions."""

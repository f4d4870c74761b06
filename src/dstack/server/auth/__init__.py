"""Who is asking, and what must be kept secret at rest."""

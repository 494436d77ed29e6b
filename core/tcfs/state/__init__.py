"""This machine's SQLite: what it last saw. ``schema.sql`` is the data model."""

"""This machine's SQLite: what it last saw."""

"""Garbage collection: packs that nobody needs, marked, acknowledged by all, and deleted."""

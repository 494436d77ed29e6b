"""Append, read, verify and snapshot the signed history in a store."""

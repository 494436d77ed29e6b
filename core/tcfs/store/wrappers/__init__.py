"""Stores that wrap another one and add one behaviour each."""

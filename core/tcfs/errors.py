"""Errors: one root; each has a stable code, an exit code, a remedy, and says if a retry helps."""

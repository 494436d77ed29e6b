"""The engine: scan, push, pull, resolve, git, gc, verify, watch."""

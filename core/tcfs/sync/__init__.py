"""The engine: scan, push, pull, resolve, history, verify."""

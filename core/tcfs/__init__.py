"""tcfs: directory trees kept the same on a fleet of machines through an object store."""

__version__ = "0.1.0"

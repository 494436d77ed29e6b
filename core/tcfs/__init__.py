<<<<<<< HEAD
"""tcfs: directory trees kept the same on a fleet of machines through an object store."""
=======
"""tcfs keeps directory trees the same on a fleet of machines through an object store."""
>>>>>>> tooling

__version__ = "0.1.0"

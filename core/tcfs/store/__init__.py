<<<<<<< HEAD
"""Where objects live: one protocol, an adapter for each kind of store, wrappers."""
=======
"""Where objects live: one BlobStore protocol, its adapters and wrappers."""
>>>>>>> tooling

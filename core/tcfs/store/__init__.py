"""Where objects live: one protocol, an adapter for each kind of store, wrappers."""

"""Where objects live: one protocol, adapters for each kind of store, wrappers around them."""

"""Where objects live: one BlobStore protocol, its adapters and wrappers."""

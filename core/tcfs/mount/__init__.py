"""Trees as a mounted file system: stubs and hydration."""

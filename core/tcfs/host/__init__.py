"""The machine as a seam: file system, clock, entropy and executor, replaceable in tests."""

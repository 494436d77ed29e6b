<<<<<<< HEAD
"""The machine as a seam: file system, clock, entropy and executor, replaceable in tests."""
=======
"""The machine as a seam: filesystem, clock, entropy, executor."""
>>>>>>> tooling

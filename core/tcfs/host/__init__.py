"""The machine as a seam: filesystem, clock, entropy, executor."""

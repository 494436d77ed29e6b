"""Values and rules only: no IO, no clock, no randomness, no logging."""

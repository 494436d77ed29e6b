"""Events between devices."""

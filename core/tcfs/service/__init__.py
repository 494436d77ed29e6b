"""The daemon: workers, metrics."""

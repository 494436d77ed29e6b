"""The command line, `tcfs`."""

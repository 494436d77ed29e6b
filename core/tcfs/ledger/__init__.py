"""The signed history in a store: append, read, verify."""

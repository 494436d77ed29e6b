"""Who this machine is: identity, key protection, registry, enrollment."""

"""Private servers on this machine, for development and tests: SeaweedFS and NATS.

They come from the extra ``servers``, listen on loopback alone, want keys, and keep everything they
have in one directory each. ``weed`` and ``nats`` say what is to be run and when it is ready,
``server`` is what they share, ``process`` runs it.
"""

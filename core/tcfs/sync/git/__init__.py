"""Git repositories under a root: what they say travels as registers and bundles in the ledger."""

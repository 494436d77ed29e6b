"""Who this machine is and how machines join: identity, phrase, epochs, invites, registry."""

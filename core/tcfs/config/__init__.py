"""The configuration: the one source for TOML, environment and Nix."""

"""Where credentials come from."""

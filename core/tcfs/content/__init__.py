"""File bytes to sealed packs and back: chunker, frames, packs."""

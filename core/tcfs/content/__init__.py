<<<<<<< HEAD
"""File bytes to sealed packs and back: chunker, frames, packs."""
=======
"""File bytes to sealed packs and back: chunker, frames, pack."""
>>>>>>> tooling

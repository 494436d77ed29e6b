"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("tests", deadline=None, print_blob=True)
settings.load_profile("tests")

"""What ``script/demo`` shows: tcfs as a user would see it, told while it happens.

``store`` and ``servers`` are the two stories, ``stage`` is what both stand on, ``trees`` compares
and ``telling`` writes. They use the installed commands, each device with a ``TCFS_HOME`` of its own
below one temporary directory, and compare trees themselves: nothing of the engine is imported.
"""

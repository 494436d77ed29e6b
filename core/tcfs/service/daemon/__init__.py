"""The daemon: keeps every enrolled directory of this device in sync.

``loop`` decides what is due and does it, on one thread and with all time passed in; ``watcher``
tells it of changed files; ``serve`` runs both as a process, with ``web``, ``notify`` and ``logs``
at its edges. ``report`` is what others can read of it.
"""

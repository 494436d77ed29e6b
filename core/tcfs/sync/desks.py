"""Which desk shows and settles a conflict: that of files, or that of repositories."""

from __future__ import annotations

from tcfs.model.ids import NamespaceId, RelPath
from tcfs.sync.conflicts import ConflictDesk
from tcfs.sync.context import Context
from tcfs.sync.git.names import split


def desk(context: Context, namespace: NamespaceId, path: RelPath) -> ConflictDesk:
    """Who shows and settles the conflict at a path."""
    if split(path) is None:
        return ConflictDesk(context, namespace)
    from tcfs.sync.git.desk import RefDesk

    return RefDesk(context, namespace)

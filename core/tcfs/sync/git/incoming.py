"""Objects on their way in: the bundles that a repository needs, fetched, verified and taken in."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tcfs.errors import IntegrityError
from tcfs.model.event import Version
from tcfs.model.ids import NamespaceId, VersionId
from tcfs.model.paths import show
from tcfs.sync.context import Context
from tcfs.sync.download import Download
from tcfs.sync.git import bundle, registers
from tcfs.sync.git.names import BUNDLES, path_of
from tcfs.sync.git.program import Program
from tcfs.sync.git.registers import Remote


def bring(
    context: Context,
    namespace: NamespaceId,
    remote: Remote,
    program: Program,
    scratch: bytes,
    *,
    first: bool,
) -> int:
    """Bring every object that the fleet's registers name into a repository. No ref moves.

    Args:
        first: the repository is new here: all of it is checked with git fsck.

    Returns the bytes that were fetched.

    Raises:
        IntegrityError: a bundle or an object is damaged, or something is missing.
    """
    wanted = remote.oids()
    missing = wanted - bundle.present(program, wanted)
    if not missing:
        return 0
    download = Download(context, namespace)
    taken: set[VersionId] = set()

    def take(versions: Iterable[Version]) -> None:
        for version in versions:
            info = registers.bundle_info(version)
            if version.id in taken or info is None:
                continue
            taken.add(version.id)
            path = os.path.join(scratch, b"incoming")
            with open(path, "wb") as file:
                for part in download.stream(version):
                    file.write(part)
            try:
                bundle.take_in(program, path, info)
            except IntegrityError as error:
                raise IntegrityError(
                    f"the bundle of {show(remote.repository) or 'the root'} by "
                    f"{show(version.manifest.written_by.encode())} was refused: {error.message}"
                ) from None
            finally:
                os.unlink(path)

    standing = registers.ordered(remote.bundles)
    known = {i: info for i, v in enumerate(standing) if (info := registers.bundle_info(v))}
    order = bundle.choose(known, missing, lambda oids: bundle.present(program, oids))
    take(standing[i] for i in order)
    missing = wanted - bundle.present(program, wanted)
    if missing:
        # What is missing may lie inside a bundle without being named by one.
        take(standing)
        missing = wanted - bundle.present(program, wanted)
    if missing:
        take(_former(context, namespace, remote))
        missing = wanted - bundle.present(program, wanted)
    if missing:
        raise IntegrityError(
            f"{len(missing)} objects of {show(remote.repository) or 'the root'} are in no bundle, "
            f"such as {min(missing).decode()}"
        )
    bundle.hold(program, wanted)
    bundle.check_connected(program, wanted, everything=first)
    return download.bytes_received


def _former(context: Context, namespace: NamespaceId, remote: Remote) -> list[Version]:
    """Bundles that a full one took the place of, oldest first: somebody may have built on them."""
    history = context.state.history
    prefix = path_of(remote.repository, BUNDLES.rstrip(b"/"))
    found = [v for _, v in history.log(namespace, prefix, before=None, limit=10_000)]
    return sorted((v for v in found if v.manifest.kind == "file"), key=lambda v: v.order)

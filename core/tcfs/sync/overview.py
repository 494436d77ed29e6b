"""This device at a glance, and what its user should know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcfs.errors import StoreError
from tcfs.model.paths import ROOT, show
from tcfs.sync import places
from tcfs.sync import results as r
from tcfs.sync.context import Context
from tcfs.sync.members import admission_warnings
from tcfs.sync.receive import refresh_control
from tcfs.sync.stores import condition_warnings

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig


def status(context: Context, loaded: LoadedConfig, *, phrase_pending: bool) -> r.Status:
    """How this device stands. An unreachable store is a warning."""
    from tcfs.sync.certificates import certificates, expiry_warnings

    warnings = list(loaded.warnings)
    reached = True
    try:
        refresh_control(context)
    except StoreError as error:
        reached = False
        warnings.append(f"the store cannot be reached: {error.message}")
    if phrase_pending:
        warnings.append(
            "the recovery phrase was not confirmed: without it, losing this machine loses "
            "everything. A person at a terminal should run: tcfs init --show-phrase"
        )
    if context.state.rebuilding:
        warnings.append(
            "the index was not rebuilt to the end, and what is shown here may be a part: the next "
            "command that needs it does that first, or at once: tcfs rebuild-index"
        )
    device = context.device
    waiting = admission_warnings(context)
    if device is None and not waiting:
        warnings.append("this device is not a member of the repository")
    elif device is not None and device.revoked:
        warnings.append("this device was revoked")
    warnings += waiting
    warnings += expiry_warnings(certificates(loaded))
    warnings += condition_warnings(loaded, context.store.endpoint)
    warnings += [
        f"{finding.namespace} chain {finding.device} at {finding.seq}: "
        f"{finding.kind}: {finding.reason}"
        for finding in context.state.findings.all()[:20]
        if finding.kind != "revoked"
    ]
    roots = tuple(
        r.RootInfo(
            local=show(root.local),
            remote=places.remote_text(context, root.namespace, root.remote),
            is_sync_root=_is_sync_root(context, root.local),
            tracked=context.state.roots.base_count(root),
            waiting=context.state.roots.waiting(root),
        )
        for root in context.state.roots.all()[:100]
    )
    return r.Status(
        device_id=context.identity.device_id,
        device_name=context.identity.name,
        endpoint=context.store.endpoint,
        repo=str(context.repo),
        encryption=context.format.encryption,
        namespace=context.namespace,
        role=device.role if device else "",
        revoked=bool(device and device.revoked),
        devices=len(context.control.active()),
        conflicts=len(context.state.history.conflicted(context.namespace, ROOT)),
        roots=roots,
        outbox=context.state.outbox.count(),
        warnings=tuple(warnings),
        store_reached=reached,
        strategy=context.control.strategy(context.namespace),
    )


def _is_sync_root(context: Context, local: bytes) -> bool:
    configured = context.config.sync.sync_root
    return configured is not None and places.sync_root(context).local == local

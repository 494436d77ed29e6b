"""Access rules as an operation of this device: set, list and explain them; groups; namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from tcfs.device.change import prepare, require_admin
from tcfs.device.epochs import NO_COMMITMENT, SealedObject, first_epoch, new_epoch_id, seal
from tcfs.errors import AccessError, UsageError
from tcfs.ledger.control import acl_event, epoch_event, group_event
from tcfs.model.access import DeviceRecord, Role
from tcfs.model.ids import CONTROL, RECOVERY, DeviceId, NamespaceId, check_namespace
from tcfs.model.paths import show, unshow
from tcfs.model.rules import (
    ANY,
    EVERYTHING,
    PERMISSIONS,
    Author,
    Rule,
    check_pattern,
    check_subject,
    is_group,
)
from tcfs.sync import places
from tcfs.sync.admission import admit, find_request
from tcfs.sync.context import Context
from tcfs.sync.control import confirm, open_enrollment, publish_change, renew, share
from tcfs.sync.members import find_device, pending, pending_device
from tcfs.sync.receive import receive, refresh_control, settle_outbox
from tcfs.sync.results import DeviceInfo, EnrollmentResult, PendingDevice

Working = Callable[[], AbstractContextManager[Context]]


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """A rule for people and programs. ``subject_name`` is a device's name where it has one."""

    subject: str
    subject_name: str
    path: str
    permissions: tuple[str, ...]
    set_by: str


@dataclass(frozen=True, slots=True)
class AclList:
    """The rules of a namespace and the groups of the repository, as they are now."""

    namespace: str
    rules: tuple[RuleInfo, ...]
    groups: dict[str, tuple[str, ...]]
    readers: tuple[str, ...]
    """Names of the devices that are to hold the namespace's key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a device may do one thing at one path, and why."""

    permission: str
    allowed: bool
    reason: str
    rules: tuple[RuleInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class AclExplanation:
    """What a device may do at a path."""

    namespace: str
    path: str
    device: str
    role: str
    holds_key: bool
    answers: tuple[Answer, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class NamespaceInfo:
    """A namespace. ``readers`` are the names of the devices that hold its key."""

    name: str
    epochs: int
    readers: tuple[str, ...]
    readable_here: bool


class AccessDesk:
    """``fleet.access``: who may do what where.

    Args:
        context: this device.
        working: the context with the device's lock held.
    """

    def __init__(self, context: Context, working: Working) -> None:
        self._context = context
        self._working = working

    # Looking

    def rules(self, namespace: str = "") -> AclList:
        """The rules of a namespace, by default the configured one."""
        context = self._context
        refresh_control(context)
        space = check_namespace(namespace) if namespace else context.namespace
        view = context.control.rules.now(space)
        rules = sorted(view.rules, key=lambda rule: (rule.path, rule.subject))
        return AclList(
            namespace=space,
            rules=tuple(self._info(rule) for rule in rules),
            groups={
                name: tuple(self._name(device) for device in sorted(members))
                for name, members in sorted(view.groups.items())
            },
            readers=self._readers(space),
        )

    def explain(self, path: str, *, device: str = "") -> AclExplanation:
        """What a device, by default this one, may do at a path, and which rules say so."""
        context = self._context
        refresh_control(context)
        namespace, remote = places.parse(context, path)
        if not remote:
            raise UsageError("name a path within the namespace", remedy="Such as: docs/notes.txt")
        record = find_device(context, device) if device else context.require_member()
        view = context.control.rules.now(namespace)
        answers = []
        for permission in PERMISSIONS:
            found = view.decide(record.device_id, record.role, remote, permission)
            allowed, reason = found.allowed, found.reason
            if record.revoked:
                allowed, reason = False, "it was revoked"
            answers.append(
                Answer(permission, allowed, reason, tuple(self._info(r) for r in found.rules))
            )
        return AclExplanation(
            namespace=namespace,
            path=show(remote),
            device=record.name,
            role=record.role,
            holds_key=record.device_id in context.control.readers(namespace),
            answers=tuple(answers),
        )

    def namespaces(self) -> Sequence[NamespaceInfo]:
        """Every namespace of the repository."""
        context = self._context
        refresh_control(context)
        own = context.identity.device_id
        return [
            NamespaceInfo(
                name=space,
                epochs=len(known),
                readers=self._readers(space),
                readable_here=own in context.control.readers(space),
            )
            for space, known in sorted(context.control.epochs.items())
        ]

    def pending(self) -> list[PendingDevice]:
        """Devices that wait until an admin admits them."""
        refresh_control(self._context)
        return pending(self._context)

    def request(self, device: str) -> PendingDevice:
        """The device that waits and goes by this name, id or fingerprint."""
        refresh_control(self._context)
        return pending_device(self._context, find_request(self._context, device))

    # Changing

    def admit(self, device: str) -> DeviceInfo:
        """Admit a device that waits; see ``admission.admit``."""
        with self._working() as context:
            return admit(context, device)

    def open_enrollment(
        self, passphrase: str, *, uses: int = 10, expires_s: int = 86_400, role: Role = "writer"
    ) -> EnrollmentResult:
        """Let devices join by a passphrase; raises as ``control.open_enrollment``."""
        with self._working() as context:
            return open_enrollment(context, passphrase, uses=uses, expires_s=expires_s, role=role)

    def confirm(self) -> list[DeviceInfo]:
        """Confirm who used invites, and give keys to who lacks them; see ``control.confirm``."""
        with self._working() as context:
            return confirm(context)

    def set(
        self,
        pattern: str,
        permissions: Sequence[str] | None,
        *,
        devices: Sequence[str] = (),
        groups: Sequence[str] = (),
        everyone: bool = False,
        namespace: str = "",
        from_start: bool = False,
    ) -> AclList:
        """Set a rule for each subject, or remove it.

        Args:
            pattern: a glob as ``show`` writes paths.
            permissions: what the subjects get there; empty for nothing, None to remove the rule.
            everyone: the subject is any enrolled device.
            from_start: the rule judges all of history, and not only what is written from now on.

        Raises:
            AccessError: this device may not set rules there.
            UsageError: a subject, permission or pattern is none.
        """
        glob = check_pattern(unshow(pattern))
        unknown = [p for p in permissions or () if p not in PERMISSIONS]
        if unknown:
            raise UsageError(
                f"not a permission: {unknown[0]!r}", remedy=f"Use {', '.join(PERMISSIONS)}."
            )
        if not devices and not groups and not everyone:
            raise UsageError("say whom the rule is for", remedy="--device, --group or --any")
        with self._working() as context:
            space = check_namespace(namespace) if namespace else context.namespace
            self._ready(context)
            subjects = [f"device:{find_device(context, name).device_id}" for name in devices]
            subjects += [check_subject(f"group:{name}") for name in groups]
            subjects += [ANY] if everyone else []
            self._require_admin_at(context, space, glob)
            since = {} if from_start else self._since(context, [space])
            events = [acl_event(space, s, glob, permissions, since) for s in subjects]
            self._publish(context, events)
        return self.rules(space)

    def set_group(self, name: str, devices: Sequence[str]) -> AclList:
        """Say which devices a group has; an empty list ends it.

        Raises:
            AccessError: this device is no admin, or cannot read a namespace whose rules name it.
        """
        if not is_group(name):
            raise UsageError(f"not a group's name: {name!r}")
        with self._working() as context:
            self._ready(context)
            require_admin(context.view, context.identity.device_id)
            members = {find_device(context, device).device_id for device in devices}
            concerned = [
                space for space in context.control.epochs if context.control.rules.governs(space)
            ]
            event = group_event(name, members, self._since(context, concerned))
            self._publish(context, [event])
        return self.rules()

    def create_namespace(self, name: str, *, only: Sequence[str] = ()) -> NamespaceInfo:
        """Begin a namespace with a key of its own.

        Args:
            only: the devices that are to read and write it, besides this one; all if empty.

        Raises:
            AccessError: this device is no admin.
            UsageError: there is one of that name.
        """
        space = check_namespace(name)
        with self._working() as context:
            self._ready(context)
            require_admin(context.view, context.identity.device_id)
            if space in context.control.epochs:
                raise UsageError(f"there is a namespace {space!r} already")
            events, members = self._closed(context, space, only)
            entropy = context.host.entropy
            objects: list[SealedObject] = []
            ids = [member.device_id for member in members]
            if context.format.encryption:
                secrets = first_epoch(space, entropy)
                fmt = context.format
                objects = [seal(fmt.repo, secrets, m.device_id, m.recipient) for m in members]
                objects.append(seal(fmt.repo, secrets, RECOVERY, fmt.recovery_recipient))
                events.append(epoch_event(space, secrets.epoch, secrets.commitment, ids))
            else:
                events.append(epoch_event(space, new_epoch_id(entropy), NO_COMMITMENT, ids))
            self._publish(context, events, objects)
        return next(info for info in self.namespaces() if info.name == space)

    def _closed(
        self, context: Context, space: NamespaceId, only: Sequence[str]
    ) -> tuple[list[dict[str, Any]], list[DeviceRecord]]:
        """The rules that keep a new namespace to some devices, and these."""
        everyone = context.control.active()
        if not only:
            readers = context.control.readers(space)
            return [], [device for device in everyone if device.device_id in readers]
        named = {find_device(context, device).device_id for device in only}
        named.add(context.identity.device_id)
        events = [acl_event(space, ANY, EVERYTHING, [], {})]
        given = ["read", "write", "delete"]
        events += [acl_event(space, f"device:{d}", EVERYTHING, given, {}) for d in sorted(named)]
        return events, [device for device in everyone if device.device_id in named]

    def _ready(self, context: Context) -> None:
        refresh_control(context)
        settle_outbox(context)
        context.require_member()

    def _since(
        self, context: Context, namespaces: Iterable[NamespaceId]
    ) -> Mapping[NamespaceId, Mapping[DeviceId, int]]:
        """What was accepted so far, which the change does not concern."""
        since: dict[NamespaceId, dict[DeviceId, int]] = {}
        for space in namespaces:
            if space not in context.control.epochs:
                continue  # nothing is written there yet
            if context.format.encryption and not context.keys(space).holds_current(context.control):
                raise AccessError(
                    f"this device cannot read the namespace {space!r}, and so cannot say since "
                    "when a rule is to hold there",
                    remedy="Set it on a device that can read it; see: tcfs acl list",
                )
            receive(context, space)
            heads = context.state.history.heads(space)
            since[space] = {device: head.seq for device, head in heads.items()}
        since[CONTROL] = {device: head.seq for device, head in context.control_heads.items()}
        return since

    def _require_admin_at(self, context: Context, space: NamespaceId, glob: bytes) -> None:
        device = context.require_member()
        if device.role == "admin":
            return
        head = context.control_heads.get(device.device_id)
        author = Author(device.device_id, (head.seq if head else 0) + 1)
        literal: list[bytes] = []
        for component in glob.split(b"/"):
            if b"*" in component or b"?" in component:
                break
            literal.append(component)
        rules = context.control.rules
        if not rules.delegates(space, author, b"/".join(literal)):
            raise AccessError(
                f"this device ({device.name}) may not set rules at {show(glob)}",
                remedy="Ask an admin; or for: tcfs acl set --permissions admin PATH",
                details={"role": device.role},
            )

    def _publish(
        self,
        context: Context,
        events: Sequence[Mapping[str, Any]],
        objects: Sequence[SealedObject] = (),
    ) -> None:
        change = prepare(
            context.view,
            context.format,
            context.identity,
            events,
            objects,
            entropy=context.host.entropy,
            now=context.host.clock.now(),
        )
        publish_change(context, change)
        context.forget_keys()
        renew(context)
        context.forget_keys()
        share(context)

    # Words

    def _info(self, rule: Rule) -> RuleInfo:
        kind, _, name = rule.subject.partition(":")
        return RuleInfo(
            subject=rule.subject,
            subject_name=self._name(DeviceId(name)) if kind == "device" else name or kind,
            path=show(rule.path),
            permissions=tuple(p for p in PERMISSIONS if p in rule.permissions),
            set_by=self._name(rule.author.device) if rule.author else "admin",
        )

    def _name(self, device: DeviceId) -> str:
        record = self._context.control.devices.get(device)
        return record.name if record else device

    def _readers(self, namespace: NamespaceId) -> tuple[str, ...]:
        control = self._context.control
        return tuple(sorted(control.devices[d].name for d in control.readers(namespace)))

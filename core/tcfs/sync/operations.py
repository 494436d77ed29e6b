"""Whole pushes and pulls: lock held, state recovered, plan made and checked, work done, told.

These are the steps around ``push.Push`` and ``pull.Pull`` that every front end needs alike. What
only a pull needs is imported there: a push that finds nothing new is little more than its imports.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tcfs.errors import AccessError, LocalFileError, NotFoundError, TcfsError, UsageError
from tcfs.model.ids import NamespaceId, RelPath
from tcfs.model.paths import ROOT, join, parents, relative_to, show
from tcfs.state.roots import Root
from tcfs.sync import kept, leftovers, places, spelling
from tcfs.sync.ahead import looking_ahead
from tcfs.sync.compare import Look, compare, compare_some, look, unseen
from tcfs.sync.context import Context
from tcfs.sync.facade import Limits
from tcfs.sync.gc.marks import acknowledge
from tcfs.sync.git.hooks import Followed, pull_hook, push_hook
from tcfs.sync.ignore import Exclusion, exclusion
from tcfs.sync.judge import Permit, withhold
from tcfs.sync.places import Place
from tcfs.sync.planning import check_limits, check_plan, join_plans
from tcfs.sync.push import Push
from tcfs.sync.receive import prepare_to_write, receive, stopped_chains
from tcfs.sync.results import LIST_LIMIT, ConflictInfo, Problem, SyncResult, Transfer
from tcfs.sync.scan import Scan, scan
from tcfs.sync.sending import Pushed

if TYPE_CHECKING:
    from tcfs.host.base import Ahead
    from tcfs.sync.git.push import GitPush
    from tcfs.sync.pull import Pull
    from tcfs.sync.resolve import Resolved


def excluded(context: Context, root: Root) -> Exclusion:
    """What configuration and enrolment leave out at the top of a root. Raises ConfigError."""
    config = context.config.sync
    return exclusion(
        (*config.exclude_patterns, *kept.excludes(context, root)),
        hidden_dirs=config.sync_hidden_dirs,
        git_dirs=config.sync_git_dirs and config.git_sync_mode == "raw",
    )


def recover_roots(context: Context, namespace: NamespaceId) -> None:
    """Finish or undo what pulls that were cut off left in the roots of a namespace."""
    for root in context.state.roots.all():
        if root.namespace != namespace:
            continue
        try:
            places.adopt(context, root)
        except LocalFileError:
            continue  # whoever needs it is told
        leftovers.recover(context, root)


# Push


def push(
    context: Context,
    found: Sequence[Place],
    *,
    dry_run: bool,
    plan: str,
    limits: Limits,
    tolerant: bool = False,
    received: bool = False,
) -> SyncResult:
    """Push these places, together as one plan.

    Args:
        received: that what others wrote was received a moment ago, and need not be again.
        tolerant: that nothing is at a place, or that it cannot be looked at, is no error.

    Raises:
        TcfsError: nothing was sent, or not all; what was committed stays.
    """
    started = context.host.clock.monotonic()
    pushes: list[Push] = []
    gits: list[tuple[GitPush, Push, Root]] = []
    problems: list[Problem] = []
    wanted = _by_root(found)
    with looking_ahead(context, wanted, excluded) as ahead:
        _get_ready(context, found, received=received)
        for root, prefixes in wanted:
            spelling.cover(context, root.local)
            if root.id:
                root = places.adopt(context, root)
                rescued = leftovers.recover(context, root)
                problems += rescued
                if rescued:
                    ahead = None  # it may have looked before they stood there
            looked, hooks = _look(context, root, prefixes, tolerant=tolerant, git=True, ahead=ahead)
            made = Push(context, root, looked)
            problems += withhold(context, root, made)
            pushes.append(made)
            gits += [(git, made, root) for git in hooks]
    git_plans = [one for one in (git.plan() for git, _, _ in gits) if one is not None]
    whole = join_plans([*(made.plan() for made in pushes), *git_plans])
    check_plan(whole, plan)
    check_limits(context, whole, sum(made.tracked for made in pushes), limits)
    namespace, remote = found[0].root.namespace, found[0].remote
    result = SyncResult(
        plan=whole,
        dry_run=dry_run,
        problems=tuple(problems),
        remote=places.remote_text(context, namespace, remote),
        local=show(found[0].root.local),
    )
    if dry_run:
        return result
    done: list[Pushed] = []
    for made in pushes:
        made.adopt()
        done.append(made.run())
    git_done = [
        git.run(places.adopt(context, root), list(made.candidates.paths()))
        for git, made, root in gits
        if git.anything
    ]
    for pushed in (*done, *git_done):
        problems += pushed.problems
    spelling.keep_seen(context)
    acknowledge(context)
    return replace(
        result,
        transfer=Transfer(
            files=sum(p.files for p in done),
            bytes_read=sum(p.bytes_read for p in done),
            bytes_sent=sum(p.bytes_sent for p in (*done, *git_done)),
            packs=sum(p.packs for p in (*done, *git_done)),
            segments=sum(p.segments for p in (*done, *git_done)),
            seconds=context.host.clock.monotonic() - started,
        ),
        conflicts=_conflicts(context, found),
        problems=tuple(problems[:LIST_LIMIT]),
        segment=next((p.last_segment for p in reversed((*done, *git_done)) if p.last_segment), ""),
    )


def _get_ready(context: Context, found: Sequence[Place], *, received: bool) -> None:
    """Take up what others wrote, and make sure that this device may write."""
    for namespace in dict.fromkeys(place.root.namespace for place in found):
        if received:
            prepare_to_write(context, namespace)
        else:
            receive(context, namespace)
    context.require_writer()
    if context.control.epochs_to_renew():
        from tcfs.sync.control import renew

        renew(context)


def _by_root(found: Iterable[Place]) -> list[tuple[Root, list[RelPath]]]:
    """The places of each root, without those inside another: one look, one commit."""
    grouped: dict[Root, list[RelPath]] = {}
    for place in found:
        grouped.setdefault(place.root, []).append(place.prefix)
    return [(root, outermost(prefixes)) for root, prefixes in grouped.items()]


def outermost(paths: Iterable[RelPath]) -> list[RelPath]:
    """The paths that lie in no other of them, in order."""
    wanted = set(paths)
    if ROOT in wanted:
        return [ROOT]
    return sorted(path for path in wanted if wanted.isdisjoint(parents(path)))


def _look(
    context: Context,
    root: Root,
    prefixes: Sequence[RelPath],
    *,
    tolerant: bool,
    git: bool,
    ahead: Ahead | None = None,
) -> tuple[Look, list[GitPush]]:
    """What differs from the base at and below these paths, and the repositories there.

    Args:
        git: whether to look for repositories, which do not travel as files.
        ahead: who began to list what is below the root.

    Raises:
        LocalFileError: a path is not there and never was, or cannot be looked at.
    """
    exclude = excluded(context, root)
    whole = unseen(context, root, Scan())
    hooks: list[GitPush] = []
    for prefix in prefixes:
        since = context.host.clock.now()
        local = show(root.local + b"/" + prefix if prefix else root.local)
        try:
            if git and context.config.sync.sync_git_dirs:
                # What makes a directory a repository may be unchanged: all of it has to be seen.
                scanned = scan(context.host.files, root.local, exclude, prefix)
                seen = bool(scanned.entries)
                hook = push_hook(context, root, prefix, scanned, since)
                hooks += [hook] if hook is not None else []
                found = compare(context, root, prefix, scanned)
            else:
                found = look(context, root, exclude, prefix, ahead)
                seen = bool(found.seen)
            if not (seen or found.scan.hidden or found.tracked or tolerant):
                raise LocalFileError(
                    f"{local} does not exist, and nothing was pushed from there before",
                    remedy="Check the path.",
                )
        except LocalFileError as error:
            if not tolerant:
                raise
            # Not seen, so never taken for deleted.
            problem = Problem(local, error.code, error.message, error.remedy)
            hidden = Scan(hidden={prefix}, problems=[problem], exclusions={ROOT: exclude})
            found = unseen(context, root, hidden)
        whole.add(found)
    return whole, hooks


def _conflicts(context: Context, found: Iterable[Place]) -> tuple[ConflictInfo, ...]:
    from tcfs.sync.describe import conflict_info

    infos = {}
    for place in found:
        paths = context.state.history.conflicted(place.root.namespace, place.remote)
        for path in paths[:LIST_LIMIT]:
            infos[path] = conflict_info(context, place.root.namespace, path)
    return tuple(infos.values())


# Pull


def receive_for_pull(context: Context, namespace: NamespaceId, *, dry_run: bool) -> None:
    """``receive``, and start workers as soon as so much comes that a pull of it will want them."""
    from tcfs.sync.staging import Expected

    def coming(events: int) -> None:
        if Expected(events, 0).pays and not dry_run:
            context.executor.start()

    receive(context, namespace, coming=coming)


def pull_place(context: Context, remote: str, local: bytes) -> Place:
    """Where a pull of ``remote`` goes. Call after ``receive_for_pull``: what stands there matters.

    Raises:
        NotFoundError: nothing stands at ``remote`` in the fleet, and never did here.
    """
    if not remote and not local:
        return Place(places.sync_root(context), ROOT)
    if not remote:
        return places.locate(context, local)
    namespace, path = places.parse(context, remote)
    history = context.state.history
    head = history.head(namespace, path) if path else None
    is_file = head is not None and not head.absent and head.siblings[0].manifest.kind != "dir"
    known = head is not None and bool(head.ids)
    if path and not known and not history.has_live_below(namespace, path):
        raise NotFoundError(
            f"nothing is at {places.remote_text(context, namespace, path)}",
            remedy="See what there is with: tcfs log",
        )
    if local:
        place = _explicit(context, namespace, path, local, is_file)
    else:
        place_or_none = places.place_of(context, namespace, path)
        if place_or_none is None and context.config.sync.sync_root is not None:
            place_or_none = Place(places.sync_root(context), path)
        if place_or_none is None:
            base = os.path.basename(path) or namespace.encode()
            place_or_none = _explicit(context, namespace, path, base, is_file=False)
        place = place_or_none
    return place


def _explicit(
    context: Context, namespace: NamespaceId, path: RelPath, local: bytes, is_file: bool
) -> Place:
    target = places.located(context, local)
    if is_file and places.is_directory(context, target):
        target = os.path.join(target, os.path.basename(path))
    for root in context.state.roots.all():
        rest = relative_to(RelPath(target), RelPath(root.local))
        if root.namespace != namespace or rest is None:
            continue
        rest = spelling.true_path(context, root.local, rest)
        if join(root.remote, rest) != path:
            continue
        if not rest and not places.exists(context, target):
            # Asked for by name, a root that is gone starts anew: with its base forgotten, nothing
            # that it no longer holds can be taken for deleted.
            if not root.marker and not root.inode:
                leftovers.recover(context, root)  # they lie beside a single file
            context.state.roots.remove(root)
            continue
        return Place(root, rest)
    return Place(Root(0, target, namespace, path, "", 0, 0, 0), ROOT)


def pull(
    context: Context,
    place: Place,
    *,
    mode: str,
    dry_run: bool,
    plan: str,
    limits: Limits,
) -> SyncResult:
    """Pull into a place. ``receive_for_pull`` has been called.

    Raises:
        TcfsError: what was put on disk and recorded before stays.
    """
    from tcfs.sync.pull import Pull

    started = context.host.clock.monotonic()
    context.require_member()
    root = place.root
    spelling.cover(context, root.local)
    problems: list[Problem] = stopped_chains(context, root.namespace)
    if root.id:
        root = places.adopt(context, root)
        problems += leftovers.recover(context, root)
    made = Pull(context, root, place.prefix)
    bounded = dry_run or plan or limits.max_bytes is not None
    put_off = not bounded and made.put_off()
    if not put_off:
        made.decide()
    if made.expected.pays and not dry_run:
        context.executor.start()
    git = pull_hook(context, root, place.prefix, made.touched())
    git_plan = [one] if git is not None and (one := git.plan()) is not None else []
    whole = join_plans([made.plan, *git_plan])
    check_plan(whole, plan)
    tracked = context.state.roots.base_count(root) if root.id else 0
    check_limits(context, whole, tracked, limits)
    result = SyncResult(
        plan=whole,
        dry_run=dry_run,
        problems=tuple(problems),
        remote=places.remote_text(context, root.namespace, place.remote),
        local=show(root.local),
    )
    if dry_run:
        return replace(result, conflicts=_conflicts(context, [place]))
    if not root.id:
        root, is_new = _new_root(context, root)
        made.adopt(root, is_new=is_new)
        # An earlier run may have been cut off before it came to record the root.
        problems += leftovers.recover(context, root)
    if git is not None:
        git.look()
    made.take_up()
    sent = _send_first(context, root, place.prefix, made)
    settled = _settle(context, root, made) if mode == "auto" and _may_write(context) else None
    pulled = made.run()
    problems += spelling.settle(context, root)
    followed = git.run(root) if git is not None else Followed()
    problems += pulled.problems + (sent.problems if sent else []) + followed.problems
    copies = pulled.conflict_copies + (settled.conflict_copies if settled else [])
    acknowledge(context)
    return replace(
        result,
        plan=join_plans([made.plan, *git_plan]) if put_off else whole,
        transfer=Transfer(
            files=pulled.files,
            bytes_sent=(sent.bytes_sent if sent else 0) + followed.bytes_sent,
            bytes_received=pulled.bytes_received + followed.bytes_received,
            segments=(sent.segments if sent else 0)
            + bool(settled and settled.segment)
            + followed.segments,
            seconds=context.host.clock.monotonic() - started,
        ),
        conflicts=_conflicts(context, [place]),
        resolved=tuple(settled.paths) if settled else (),
        conflict_copies=tuple(copies),
        problems=tuple(problems[:LIST_LIMIT]),
        notices=spelling.notices(context, root),
        segment=followed.last_segment
        or (settled.segment if settled else "")
        or (sent.last_segment if sent else ""),
    )


def _new_root(context: Context, root: Root) -> tuple[Root, bool]:
    """The root, recorded, and whether a directory was made for it."""
    head = context.state.history.head(root.namespace, root.remote) if root.remote else None
    single = head is not None and not head.absent and head.siblings[0].manifest.kind != "dir"
    files = context.host.files
    try:
        places.make_parents(context, root.local)
        if single:
            return context.state.roots.add(root.local, root.namespace, root.remote), False
        is_new = True
        try:
            files.mkdir(root.local)
        except FileExistsError:
            if files.lstat(root.local).kind != "dir":
                raise UsageError(
                    f"{show(root.local)} is a file, and a directory is to be pulled there"
                ) from None
            is_new = False
    except OSError as error:
        raise LocalFileError(f"cannot make {show(root.local)}: {error.strerror}") from error
    return places.adopt(context, root), is_new


def _may_write(context: Context) -> bool:
    try:
        context.require_writer()
    except AccessError:
        return False
    return True


def _send_first(context: Context, root: Root, prefix: RelPath, made: Pull) -> Pushed | None:
    """Local bytes that a conflict concerns go to the store before anything else."""
    dirty = made.dirty_conflicts()
    if not dirty or not _may_write(context):
        return None
    looked = compare_some(context, root, sorted(dirty), made.local_scan())
    push = Push(context, root, looked, only=dirty)
    withhold(context, root, push)  # what is left stays, or steps aside; see Pull.run
    pushed = push.run()
    made.decide()
    made.take_up()
    return pushed


def _settle(context: Context, root: Root, made: Pull) -> Resolved | None:
    """Mode ``auto``: every conflict by the namespace's strategy."""
    from tcfs.sync.resolve import Resolver

    permit = Permit(context, root.namespace)
    standing = [head for head in made.standing_conflicts() if permit.may_settle(head)]
    in_the_way = [head for head in made.files_in_the_way() if permit.may_settle(head)]
    if not standing and not in_the_way:
        return None
    with Resolver(context, root.namespace) as resolver:
        for head in standing:
            resolver.automatic(head)
        for head in in_the_way:
            resolver.make_room(head)
        resolved = resolver.flush()
    made.decide()
    made.take_up()
    return resolved


def place_of_path(context: Context, path: RelPath, namespace: NamespaceId) -> Place | None:
    """The local place of a remote path, if it has one whose root can be used."""
    place = places.place_of(context, namespace, path)
    if place is None:
        return None
    try:
        places.adopt(context, place.root)
    except TcfsError:
        return None
    return place


def local_changed(context: Context, place: Place) -> bool:
    """Whether a local path differs from its base, by stat."""
    looked = look(context, place.root, excluded(context, place.root), place.prefix)
    return bool(Push(context, place.root, looked).candidates)


def differs(context: Context, root: Root, prefixes: Iterable[RelPath]) -> bool:
    """Whether anything at and below these paths differs from its base, by stat."""
    spelling.cover(context, root.local)
    looked, _ = _look(context, root, outermost(prefixes), tolerant=True, git=False)
    return bool(Push(context, root, looked).candidates)


def remote_changed(context: Context, place: Place) -> bool:
    """Whether a pull would have something to do at and below a local path."""
    from tcfs.sync.pull import Pull

    made = Pull(context, place.root, place.prefix)
    decided = made.decide()
    git = pull_hook(context, place.root, place.prefix, made.touched())
    return decided.total > 0 or (git is not None and git.plan() is not None)

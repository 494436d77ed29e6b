"""``tcfs device``: who belongs to the fleet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tcfs.cli.arguments import command, converted, count, group, numbers, protects, takes
from tcfs.cli.terminal import bold, dim, green, red, yellow
from tcfs.config.units import parse_duration
from tcfs.errors import EXIT_OK, CancelledError, UsageError

if TYPE_CHECKING:
    from tcfs.cli.arguments import Subparsers
    from tcfs.cli.context import Context
    from tcfs.cli.terminal import Part
    from tcfs.sync import results as r

ROLES = ("reader", "writer", "admin")


def add(subparsers: Subparsers) -> None:
    """Describe the commands."""
    device = group(subparsers, "device", "manage the devices of the fleet")

    invite = command(
        device,
        "invite",
        "make a code with which one device can join",
        _invite,
        more="The code is the last line printed, works once, and is a secret.",
    )
    invite.add_argument(
        "--expires",
        default="1h",
        metavar="TIME",
        help="how long it works: 30m, 1h, 2d (default 1h)",
    )
    invite.add_argument(
        "--role", choices=ROLES, default="writer", help="what the device may do (default writer)"
    )
    invite.add_argument(
        "--attest",
        action="append",
        default=[],
        metavar="KEY",
        help="only for the machine whose TPM has this key ('tcfs device tpm-key'); repeatable",
    )
    invite.add_argument(
        "--pcrs", default="7", metavar="N,N", help="with --attest: the PCRs to prove (default 7)"
    )
    command(device, "tpm-key", "print the fingerprint of this machine's TPM key", _tpm_key)
    command(
        device,
        "confirm",
        "confirm who used invites, and give keys to who proved its machine",
        _confirm,
    )

    passphrase = command(
        device,
        "passphrase",
        "let devices join by a passphrase for a while",
        _passphrase,
        more="The passphrase is asked for, or TCFS_PASSPHRASE, or standard input. Whoever can read "
        "the store can try to guess it: take several words, and a short time.",
    )
    passphrase.add_argument(
        "--uses", type=count, default=10, metavar="N", help="for so many devices (default 10)"
    )
    passphrase.add_argument(
        "--expires", default="1d", metavar="TIME", help="how long it works (default 1d)"
    )
    passphrase.add_argument(
        "--role", choices=ROLES, default="writer", help="what they may do (default writer)"
    )

    enroll = command(
        device,
        "enroll",
        "join the fleet with an invite, or by its passphrase",
        _enroll,
        more="A code on the command line can be seen by other users of this machine while the "
        "command runs; '--invite -' reads it from standard input. Without a code the passphrase in "
        "TCFS_PASSPHRASE is used, at the place that TCFS_REMOTE or storage.endpoint names.",
    )
    enroll.add_argument("--name", default="", metavar="N", help="this device's name")
    enroll.add_argument("--invite", metavar="CODE", help="the code, or - for standard input")
    enroll.add_argument(
        "--new-identity",
        action="store_true",
        help="give up this machine's present identity, such as one that was cloned",
    )

    protects(enroll)

    protect = command(
        device,
        "protect",
        "guard this device's keys another way",
        _protect,
        more="file: mode 0600 alone. passphrase: asked for, or TCFS_DEVICE_PASSPHRASE; "
        "TCFS_NEW_DEVICE_PASSPHRASE is what a script changes it to. keyring: the system's. "
        "tpm: this machine's TPM 2.0, as long as the chosen PCRs stay as they are.",
    )
    protect.add_argument(
        "protect", choices=("file", "passphrase", "keyring", "tpm"), metavar="HOW", help="how"
    )
    protect.add_argument(
        "--pcrs", default="7", metavar="N,N", help="with tpm: the PCRs to seal to (default 7)"
    )

    admit = command(
        device,
        "admit",
        "let a device in that waits",
        _admit,
        more="Where the store keeps no conditional writes, an invite only lets a device ask. "
        "Compare the fingerprint with what 'tcfs status' shows on that device.",
    )
    takes(
        admit.add_argument("device", metavar="DEVICE", help="its name, id or fingerprint"), "device"
    )
    admit.add_argument("--yes", action="store_true", help="do not ask")
    command(device, "list", "list the devices of the fleet", _list)
    command(device, "status", "tell about this device", _status)

    revoke = command(device, "revoke", "shut a device out", _revoke)
    takes(revoke.add_argument("device", metavar="DEVICE", help="its name or id"), "device")
    revoke.add_argument("--reason", default="", metavar="TEXT", help="why, for the history")
    revoke.add_argument("--yes", action="store_true", help="do not ask")

    expire = command(
        device,
        "expire",
        "go on without a device that is away",
        _expire,
        more="What it wrote until now counts, and nothing after. No key changes. Its files stay as "
        "they are; to come back it joins anew, with an invite.",
    )
    takes(expire.add_argument("device", metavar="DEVICE", help="its name or id"), "device")
    expire.add_argument("--yes", action="store_true", help="do not ask")


def _invite(ctx: Context) -> int:
    args = ctx.args
    expires_s = int(converted(parse_duration, args.expires, "--expires") or 0)
    if expires_s < 1:
        raise UsageError("--expires: an invite must work for a while", remedy="Such as 30m.")
    with ctx.fleet() as fleet:
        made = fleet.invite(
            expires_s=expires_s, role=args.role, attest=args.attest, pcrs=numbers(args.pcrs)
        )

    def show() -> None:
        from tcfs.cli.text import when

        ctx.terminal.note(
            f"Invite for one {made.role}, until {when(made.expires_at)}. On the other device: "
            "tcfs device enroll --name NAME --invite CODE"
        )
        if made.admit:
            ctx.terminal.note(
                "This store keeps no conditional writes: the device then waits until you let it "
                "in, here, with: tcfs device admit NAME"
            )
        # Alone on the last line, so that a script can take it.
        ctx.terminal.out(made.code)

    ctx.result(made, show)
    return EXIT_OK


def _tpm_key(ctx: Context) -> int:
    from tcfs.device.attest import attestation_key

    key = attestation_key(os.environ)
    ctx.result({"key": key}, lambda: ctx.terminal.out(key))
    return EXIT_OK


def _confirm(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        confirmed = fleet.access.confirm()
    ctx.result({"devices": confirmed}, lambda: _show_devices(ctx, confirmed))
    return EXIT_OK


def _passphrase(ctx: Context) -> int:
    args = ctx.args
    expires_s = int(converted(parse_duration, args.expires, "--expires") or 0)
    passphrase = os.environ.get("TCFS_PASSPHRASE", "")
    if not passphrase:
        passphrase = ctx.terminal.secret("Passphrase to enroll with (not shown): ")
        if ctx.person and ctx.terminal.secret("The same again: ") != passphrase:
            raise UsageError("the two passphrases differ", remedy="Nothing changed; try again.")
    with ctx.fleet() as fleet:
        made = fleet.access.open_enrollment(
            passphrase, uses=args.uses, expires_s=expires_s, role=args.role
        )

    def show() -> None:
        from tcfs.cli.text import plural, when

        ctx.terminal.out(
            f"{plural(made.uses, 'device')} can join as {made.role}, until {when(made.expires_at)}"
        )

    ctx.result(made, show)
    return EXIT_OK


def _enroll(ctx: Context) -> int:
    from tcfs.cli.commands.init import show_joined
    from tcfs.cli.engine import engine

    args = ctx.args
    code = args.invite
    passphrase = "" if code is not None else os.environ.get("TCFS_PASSPHRASE", "")
    if code == "-" or (code is None and not passphrase and ctx.person):
        code = ctx.terminal.secret("Invite, or passphrase (not shown): ")
        if args.invite is None and not code.startswith("tcfs-invite-"):
            code, passphrase = "", code
    code = "".join((code or "").split())
    if not code and not passphrase:
        raise UsageError(
            "no invite was given",
            remedy="Make one with 'tcfs device invite' on a device of the fleet, "
            "then add --invite CODE.",
        )
    result = engine().enroll_fleet(
        ctx.loaded(),
        name=args.name,
        invite=code,
        passphrase=passphrase,
        new_identity=args.new_identity,
        keys=ctx.keys(),
    )
    ctx.result(result, lambda: show_joined(ctx, result))
    return EXIT_OK


def _protect(ctx: Context) -> int:
    from tcfs.cli.engine import engine

    keys = ctx.keys()
    before = engine().protect_device(ctx.loaded(), keys)
    ctx.result(
        {"protection": keys.kind, "before": before},
        lambda: ctx.terminal.out("keys of this device: ", bold(keys.kind), f" (before: {before})"),
    )
    return EXIT_OK


def _list(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        devices = fleet.devices()
        pending = fleet.access.pending()
    shown = {"devices": devices, "pending": pending}
    ctx.result(shown, lambda: _show_devices(ctx, devices, pending))
    return EXIT_OK


def _show_devices(
    ctx: Context, devices: Sequence[r.DeviceInfo], pending: Sequence[r.PendingDevice] = ()
) -> None:
    from tcfs.cli.text import table, when

    rows: list[list[Part]] = []
    for device in devices:
        state: Part = red("revoked") if device.revoked else green("active")
        name: Part = bold(f"{device.name} *") if device.this_device else device.name
        rows.append([name, device.role, state, when(device.enrolled_at), dim(device.device_id)])
    for asks in pending:
        name = bold(f"{asks.name} *") if asks.this_device else asks.name
        rows.append([name, asks.role, yellow("waits"), when(asks.claimed_at), dim(asks.device_id)])
    table(ctx.terminal, rows, ("NAME", "ROLE", "STATE", "ENROLLED", "ID"))
    for asks in pending:
        several = f"  (one of {asks.rivals + 1} with the same invite)" if asks.rivals else ""
        ctx.terminal.out(f"{asks.name} waits, fingerprint ", bold(asks.fingerprint), several)
    if pending:
        ctx.terminal.note(
            "Compare with what 'tcfs status' shows on the device, then: tcfs device admit DEVICE"
        )


def _status(ctx: Context) -> int:
    with ctx.fleet() as fleet:
        devices = [device for device in fleet.devices() if device.this_device]
        status = fleet.status()

    def show() -> None:
        from tcfs.cli.text import fields, when

        mine = devices[0] if devices else None
        fields(
            ctx.terminal,
            [
                ("device", bold(status.device_name)),
                ("id", status.device_id),
                ("role", status.role),
                ("state", _state(status)),
                ("enrolled", when(mine.enrolled_at) if mine else ""),
                ("description", mine.description if mine else ""),
                ("signing key", mine.sign_key if mine else ""),
                ("segments", str(mine.head) if mine else ""),
            ],
        )
        for warning in status.warnings:
            ctx.terminal.warn(warning)

    value: object = devices[0] if devices else status
    ctx.result({"device": value, "warnings": status.warnings}, show)
    return EXIT_OK


def _state(status: r.Status) -> Part:
    if status.revoked:
        return red("revoked")
    return green("active") if status.role else yellow("no member")


def _admit(ctx: Context) -> int:
    args = ctx.args
    chosen = args.device
    with ctx.fleet() as fleet:
        if ctx.person and not args.yes:
            request = fleet.access.request(chosen)
            question = f"Let {request.name!r} in as {request.role}? Its fingerprint must be "
            if not ctx.terminal.confirm(f"{question}{request.fingerprint}"):
                raise CancelledError("nobody was admitted", remedy="")
            chosen = request.fingerprint  # the one that was shown, whoever asked meanwhile
        device = fleet.access.admit(chosen)
    ctx.result(
        device, lambda: ctx.terminal.out(device.name, ": ", green("admitted"), f" as {device.role}")
    )
    return EXIT_OK


def _revoke(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet() as fleet:
        question = f"Shut out {args.device!r}? It can then neither read what is new nor write."
        if ctx.person and not args.yes and not ctx.terminal.confirm(question):
            raise CancelledError("nothing was revoked", remedy="")
        device = fleet.revoke(args.device, reason=args.reason)
    ctx.result(device, lambda: ctx.terminal.out(device.name, ": ", red("revoked")))
    return EXIT_OK


def _expire(ctx: Context) -> int:
    args = ctx.args
    with ctx.fleet() as fleet:
        question = f"Go on without {args.device!r}? To come back it needs a new invite."
        if ctx.person and not args.yes and not ctx.terminal.confirm(question):
            raise CancelledError("nothing was changed", remedy="")
        device = fleet.gc.expire(args.device)
    ctx.result(device, lambda: ctx.terminal.out(device.name, ": ", red("expired")))
    return EXIT_OK

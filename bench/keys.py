"""Times of key operations: guards of a device's keys, credentials, rules.

    .venv/bin/python bench/keys.py [--runs 5]

A line is the median of the runs with the smallest and the largest. What is not installed is left
out and said. Figures that were measured are in RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with TemporaryDirectory() as work:
        for name, action in operations(Path(work)):
            show(name, action, runs)


def show(name: str, action: Callable[[], object], runs: int) -> None:
    samples = []
    for _ in range(runs):
        start = time.perf_counter()
        action()
        samples.append((time.perf_counter() - start) * 1000)
    low, high = min(samples), max(samples)
    print(f"{name:44} {statistics.median(samples):9.2f} ms  ({low:.2f} - {high:.2f})")


def operations(work: Path) -> list[tuple[str, Callable[[], object]]]:
    from tcfs.device.identity import generate
    from tcfs.device.protection import derive, open_envelope, seal_envelope
    from tcfs.host.system import system_host
    from tcfs.ledger.strict import parse_object
    from tcfs.model.ids import CONTROL, DeviceId, NamespaceId
    from tcfs.model.rules import RuleChange, Ruleset
    from tcfs.secrets.age import parse_identities
    from tcfs.secrets.sops import open_sops, opener_of

    entropy = system_host().entropy
    key = os.urandom(32)
    envelope = seal_envelope(b"x" * 400, key, "passphrase", {}, os.urandom(12))
    identity = generate("bench", entropy, 0)
    fixtures = ROOT / "tests" / "fixtures" / "sops"
    opener = opener_of(parse_identities((fixtures / "key.txt").read_text(), "key.txt"))
    sealed = (fixtures / "creds.yaml").read_bytes()
    space, device = NamespaceId("default"), DeviceId("0" * 8 + "-0000-4000-8000-" + "0" * 12)
    everyone = frozenset(("read", "write"))
    changes = tuple(
        RuleChange(space, "any", b"d%d/**" % n, everyone, {space: {}, CONTROL: {}})  # type: ignore[arg-type]
        for n in range(20)
    )
    view = Ruleset(changes).at(space, device, 1)

    def decide() -> None:
        for n in range(1000):
            view.decide(device, "writer", b"d7/some/where/%d" % n, "write")

    return [
        ("Argon2id (64 MiB, t=3, p=4)", lambda: derive("a passphrase", b"s" * 16)),
        ("open an envelope with its key", lambda: open_envelope(parse_object(envelope, "it"), key)),
        ("make an identity", lambda: generate("bench", entropy, 0)),
        ("sign", lambda: identity.sign(b"m" * 1000)),
        ("open a SOPS file (age, MAC)", lambda: open_sops(sealed, "yaml", opener, "f")),
        ("1,000 decisions under 20 rules", decide),
        *tpm(work),
    ]


def tpm(work: Path) -> list[tuple[str, Callable[[], object]]]:
    import atexit
    import shutil
    from contextlib import ExitStack

    from tcfs.device.protection import Options, guard_of
    from tcfs.host.system import system_host

    try:
        import tpm2_pytss  # noqa: F401
    except ImportError:
        print("left out: the TPM (the extra tpm is not installed)")
        return []
    if shutil.which("swtpm") is None:
        print("left out: the TPM (swtpm is not installed)")
        return []
    from tests.device.tpm import swtpm

    stack = ExitStack()
    atexit.register(stack.close)
    tcti = stack.enter_context(swtpm(work / "tpm"))
    guard = guard_of("tpm", Options(environ={"TCFS_TPM_TCTI": tcti}))
    entropy = system_host().entropy
    _, params = guard.keep(entropy)
    return [
        ("seal a key to a TPM (swtpm)", lambda: guard.keep(entropy)),
        ("unseal it", lambda: guard.find(params)),
    ]


if __name__ == "__main__":
    main()

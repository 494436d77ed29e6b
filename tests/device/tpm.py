"""A software TPM: the real swtpm, as a process on a socket."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def require_tpm() -> None:
    """Skip the test, saying why, where a TPM cannot be had."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    pytest.importorskip("tpm2_pytss", reason="the extra tpm is not installed")


@contextmanager
def swtpm(directory: Path) -> Iterator[str]:
    """Start a TPM whose state lies in a directory. Gives its TCTI."""
    directory.mkdir(exist_ok=True)
    socket = directory / "s"
    process = subprocess.Popen(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}",
         "--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl",
         "--flags", "not-need-init,startup-clear"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        end = time.monotonic() + 20
        while not socket.exists():
            assert process.poll() is None, "swtpm ended at once"
            assert time.monotonic() < end, "swtpm does not answer"
            time.sleep(0.01)
        yield f"swtpm:path={socket}"
    finally:
        process.terminate()
        process.wait(10)


def extend(tcti: str, pcr: int) -> None:
    """Let a PCR become another one, as a changed boot would."""
    import tpm2_pytss as tpm

    from tcfs.device.guard_tpm import connected

    with connected(tcti) as esys:
        digests = tpm.TPML_DIGEST_VALUES(
            [tpm.TPMT_HA(hashAlg=tpm.TPM2_ALG.SHA256, digest=tpm.TPMU_HA(sha256=b"x" * 32))]
        )
        esys.pcr_extend(pcr_handle=tpm.ESYS_TR(pcr), digests=digests)

"""What guards a device's keys: passphrase, keyring and TPM, each against the real thing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs.device import protection
from tcfs.device.identity import FileProtection, generate, load_identity, save_identity
from tcfs.device.protection import KINDS, Kind, Options, ProtectedFile, derive
from tcfs.errors import AccessError, IntegrityError, NotFoundError, UsageError
from tcfs.host.system import system_host
from tests.device.tpm import extend, require_tpm, swtpm

HOST = system_host()


def file_at(directory: Path, kind: Kind = "file", **environ: str) -> ProtectedFile:
    directory.mkdir(exist_ok=True)
    file = FileProtection(HOST.files, os.fsencode(directory / "identity.json"), HOST.entropy)
    return ProtectedFile(file, HOST.entropy, Options(environ=environ), kind)


def raw(directory: Path) -> str:
    return (directory / "identity.json").read_text()


def made(directory: Path, kind: Kind, **environ: str):
    identity = generate("anna", HOST.entropy, 1)
    save_identity(identity, file_at(directory, kind, **environ))
    return identity


def test_a_passphrase_opens_and_nothing_else_does(tmp_path):
    identity = made(tmp_path, "passphrase", TCFS_DEVICE_PASSPHRASE="open sesame")
    assert identity.age_secret not in raw(tmp_path)
    assert identity.signing_seed.hex() not in raw(tmp_path)
    assert "sesame" not in raw(tmp_path)
    again = load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="open sesame"))
    assert again == identity
    with pytest.raises(AccessError, match="passphrase is another"):
        load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="open barley"))
    with pytest.raises(AccessError, match="nobody to ask"):
        load_identity(file_at(tmp_path))
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_the_parameters_of_argon2id_are_those_of_upstream_and_of_the_standard(tmp_path):
    made(tmp_path, "passphrase", TCFS_DEVICE_PASSPHRASE="p")
    found = json.loads(raw(tmp_path))
    assert (found["memory_kib"], found["passes"], found["lanes"]) == (65536, 3, 4)
    # From the reference implementation of Argon2 (test vector of argon2id, v 0x13, by argon2-cffi).
    assert (
        derive("password", b"somesalt", memory_kib=65536, passes=2, lanes=1).hex()
        == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
    )


def test_a_systemd_credential_is_the_passphrase_of_a_service(tmp_path):
    identity = made(tmp_path / "id", "passphrase", TCFS_DEVICE_PASSPHRASE="p q")
    (tmp_path / protection.PASSPHRASE_CREDENTIAL).write_text("p q\n")
    assert load_identity(file_at(tmp_path / "id", CREDENTIALS_DIRECTORY=str(tmp_path))) == identity


def test_a_person_types_a_new_passphrase_twice(tmp_path):
    answers = iter(["one", "two", "one", "one"])
    options = Options(ask=lambda question: next(answers), environ={})
    file = FileProtection(HOST.files, os.fsencode(tmp_path / "identity.json"), HOST.entropy)
    protected = ProtectedFile(file, HOST.entropy, options, "passphrase")
    with pytest.raises(UsageError, match="differ"):
        protected.save(b"{}")
    protected.save(b'{"a":1}')
    options = Options(ask=lambda question: "one", environ={})
    assert ProtectedFile(file, HOST.entropy, options).load() == b'{"a":1}'


def test_every_changed_byte_of_an_envelope_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(protection, "MEMORY_KIB", 8 * 4)
    made(tmp_path, "passphrase", TCFS_DEVICE_PASSPHRASE="p")
    path = tmp_path / "identity.json"
    good = path.read_bytes()
    load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="p"))
    for at in range(0, len(good), 3):
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bad)
        with pytest.raises((AccessError, IntegrityError)):
            load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="p"))


def test_parameters_that_would_take_all_memory_are_refused(tmp_path):
    made(tmp_path, "passphrase", TCFS_DEVICE_PASSPHRASE="p")
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"memory_kib": 1 << 40}))
    with pytest.raises(IntegrityError, match="memory"):
        load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="p"))


def test_protection_can_be_changed_and_back(tmp_path):
    identity = made(tmp_path, "file")
    assert file_at(tmp_path).kind() == "file"
    file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="a").change("passphrase")
    assert file_at(tmp_path).kind() == "passphrase"
    assert identity.age_secret not in raw(tmp_path)
    both = file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="a", TCFS_NEW_DEVICE_PASSPHRASE="b")
    both.change("passphrase")
    assert load_identity(file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="b")) == identity
    with pytest.raises(AccessError):
        file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="a").change("file")
    file_at(tmp_path, TCFS_DEVICE_PASSPHRASE="b").change("file")
    assert load_identity(file_at(tmp_path)) == identity
    assert os.listdir(tmp_path) == ["identity.json"]


def test_a_way_that_is_not_known_is_said(tmp_path):
    (tmp_path / "identity.json").write_text('{"format":2,"protection":"dna"}')
    (tmp_path / "identity.json").chmod(0o600)
    with pytest.raises(IntegrityError, match="does not know"):
        file_at(tmp_path).load()
    assert set(KINDS) == {"file", "passphrase", "keyring", "tpm"}


# The TPM


def test_a_tpm_opens_what_it_sealed_and_a_cloned_disk_stays_shut(tmp_path):
    require_tpm()
    home = tmp_path / "id"
    with swtpm(tmp_path / "one") as one, swtpm(tmp_path / "other") as other:
        identity = made(home, "tpm", TCFS_TPM_TCTI=one)
        assert identity.age_secret not in raw(home)
        assert load_identity(file_at(home, TCFS_TPM_TCTI=one)) == identity
        clone = tmp_path / "clone"
        shutil.copytree(home, clone)
        with pytest.raises(AccessError, match="TPM of another machine"):
            load_identity(file_at(clone, TCFS_TPM_TCTI=other))
        with pytest.raises(NotFoundError, match="no TPM answers"):
            load_identity(file_at(clone, TCFS_TPM_TCTI="device:/dev/not-there"))
        # Only so many handles fit: none is left open.
        for _ in range(5):
            assert load_identity(file_at(home, TCFS_TPM_TCTI=one)) == identity
    with swtpm(tmp_path / "one") as again:  # after a reboot
        assert load_identity(file_at(home, TCFS_TPM_TCTI=again)) == identity


def test_a_changed_pcr_says_so_and_others_may_change(tmp_path):
    require_tpm()
    home = tmp_path / "id"
    with swtpm(tmp_path / "tpm") as tcti:
        identity = made(home, "tpm", TCFS_TPM_TCTI=tcti)
        extend(tcti, 4)
        assert load_identity(file_at(home, TCFS_TPM_TCTI=tcti)) == identity
        extend(tcti, 7)
        with pytest.raises(AccessError, match="PCR 7 changed") as caught:
            load_identity(file_at(home, TCFS_TPM_TCTI=tcti))
        assert caught.value.details == {"changed_pcrs": [7]}


def test_a_damaged_blob_and_odd_pcrs_are_errors_with_a_name(tmp_path):
    require_tpm()
    with swtpm(tmp_path / "tpm") as tcti:
        with pytest.raises(UsageError):
            protection.guard_of("tpm", Options(environ={"TCFS_TPM_TCTI": tcti}, pcrs=(24,)))
        made(tmp_path / "id", "tpm", TCFS_TPM_TCTI=tcti)
        path = tmp_path / "id" / "identity.json"
        good = json.loads(path.read_text())
        bads: list[dict[str, object]] = [
            {"private": "zz"},
            {"public": "00"},
            {"pcrs": {}},
            {"pcrs": {"99": "00"}},
        ]
        for bad in bads:
            path.write_text(json.dumps(good | bad))
            with pytest.raises(AccessError):
                load_identity(file_at(tmp_path / "id", TCFS_TPM_TCTI=tcti))


# The keyring

KEYRING = """
import os, sys
from pathlib import Path
from tests.device.test_protection import file_at, made, raw
from tcfs.device.identity import load_identity
from tcfs.errors import AccessError

home = Path(sys.argv[1])
identity = made(home, "keyring")
assert identity.age_secret not in raw(home)
assert load_identity(file_at(home)) == identity
import json, keyring
item = json.loads(raw(home))["item"]
assert keyring.get_password("tcfs", item)
file_at(home).change("file")
assert keyring.get_password("tcfs", item) is None, "what no envelope needs is removed"
assert load_identity(file_at(home)) == identity
file_at(home).change("keyring")
keyring.delete_password("tcfs", json.loads(raw(home))["item"])
try:
    load_identity(file_at(home))
except AccessError as error:
    print("ok", error.message)
"""


def test_the_secret_service_keeps_the_key(tmp_path):
    for program in ("dbus-run-session", "gnome-keyring-daemon"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    pytest.importorskip("keyring", reason="the extra keyring is not installed")
    script = (
        "printf pw | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1 && "
        'exec "$0" -W error::DeprecationWarning:tcfs -c "$1" "$2"'
    )
    done = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", script, sys.executable, KEYRING, tmp_path / "i"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path),
             "PYTHONPATH": "."},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok the system's keyring has no key for this device")


def test_a_session_without_a_keyring_is_told_what_to_do(tmp_path, monkeypatch):
    keyring = pytest.importorskip("keyring", reason="the extra keyring is not installed")
    from keyring.backends import fail

    monkeypatch.setattr(keyring, "get_keyring", fail.Keyring)
    with pytest.raises(NotFoundError, match="no keyring"):
        made(tmp_path, "keyring")
    assert os.listdir(tmp_path) == []

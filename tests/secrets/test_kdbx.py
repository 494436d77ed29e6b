"""KeePassXC databases, made and changed by the real programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tcfs.config import Config
from tcfs.errors import AccessError, IntegrityError, NotFoundError
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET
from tcfs.secrets.kdbx import Database, KdbxSource
from tcfs.secrets.sources import credential_chain

pykeepass = pytest.importorskip("pykeepass", reason="the extra kdbx is not installed")


def cli(*words: str | Path, stdin: str) -> None:
    """Run the real keepassxc-cli."""
    if shutil.which("keepassxc-cli") is None:
        pytest.skip("keepassxc-cli is not installed")
    done = subprocess.run(
        ["keepassxc-cli", *map(str, words)],
        input=stdin,
        text=True,
        capture_output=True,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the password ``pw``; its entries are by keepassxc-cli."""
    path = tmp_path_factory.mktemp("kdbx") / "a.kdbx"
    # The format that keepassxc-cli itself begins with takes seconds to open in Python.
    cheaply(pykeepass.create_database(str(path), password="pw")).save()
    cli("mkdir", path, "tcfs", stdin="pw\n")
    cli("add", "-u", "KDBXACCESS", "-p", path, "tcfs/s3", stdin="pw\nkdbx-secret\n")
    return path


def cheaply(opened):
    """The database with a fast key derivation: what it derives with is in the file."""
    parameters = opened.kdbx.header.value.dynamic_header.kdf_parameters.data.dict
    parameters["I"].value, parameters["M"].value = 1, 1 << 20
    return opened


def database(path: Path, password: str = "pw") -> Database:
    return Database(path, None, {"TCFS_KDBX_PASSWORD": password})


def test_entries_are_listed_without_values_and_resolved_by_path(made):
    found = database(made).entries()
    assert [(e.path, e.fields) for e in found] == [
        ("tcfs/s3", ("username", "password")),
    ]
    assert "kdbx-secret" not in repr(found)
    assert database(made).resolve("tcfs/s3") == {
        "username": "KDBXACCESS",
        "password": "kdbx-secret",
    }
    assert KdbxSource(database(made), "tcfs/s3").read() == {
        S3_ACCESS: "KDBXACCESS",
        S3_SECRET: "kdbx-secret",
    }
    with pytest.raises(NotFoundError, match="no entry"):
        database(made).resolve("tcfs/s4")


def test_a_wrong_password_none_and_a_damaged_file_are_told_apart(made, tmp_path):
    with pytest.raises(AccessError, match="is another"):
        database(made, "wrong").entries()
    with pytest.raises(AccessError, match="needs a password"):
        Database(made, None, {}).entries()
    with pytest.raises(NotFoundError):
        database(tmp_path / "none").entries()
    bad = tmp_path / "bad.kdbx"
    bad.write_bytes(made.read_bytes()[:200])
    with pytest.raises((IntegrityError, AccessError)) as caught:
        database(bad).entries()
    assert "pw" not in str(caught.value).split()


def test_argon2_and_a_key_file_and_a_systemd_credential(tmp_path):
    key = tmp_path / "key"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    path = tmp_path / "b.kdbx"
    opened = cheaply(pykeepass.create_database(str(path), password="p w", keyfile=str(key)))
    entry = opened.add_entry(opened.root_group, "s3", "A", "S")
    entry.set_custom_property("filer-key", "F", protect=True)
    opened.trash_entry(opened.add_entry(opened.root_group, "old", "X", "Y"))
    opened.save()
    assert [e.path for e in Database(path, key, {"TCFS_KDBX_PASSWORD": "p w"}).entries()] == ["s3"]
    (tmp_path / "kdbx-password").write_text("p w\n")
    config = Config.model_validate(
        {"secrets": {"kdbx_path": path, "kdbx_key_file": key, "kdbx_entry": "s3"}}
    )
    chain = credential_chain(config, environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}, aws=False)
    found = chain.find(S3_ACCESS, S3_SECRET, "filer-key")
    assert found is not None
    assert dict(found.values) == {S3_ACCESS: "A", S3_SECRET: "S", "filer-key": "F"}
    # The real program changed it: whoever asks next has it.
    cli("edit", "-k", key, "-u", "B", path, "s3", stdin="p w\n")
    again = chain.find(S3_ACCESS, S3_SECRET)
    assert again is not None
    assert again.values[S3_ACCESS] == "B"
    key.chmod(0o644)
    with pytest.raises(AccessError, match="read by others"):
        Database(path, key, {"TCFS_KDBX_PASSWORD": "p w"}).entries()

"""The age identity chain, and the directory of sealed files."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tcfs.config import Config
from tcfs.errors import AccessError, ConfigError, IntegrityError
from tcfs.secrets.age import AgeIdentities, decrypt, parse_identities
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET
from tcfs.secrets.sealed import SealedSource
from tcfs.secrets.sources import credential_chain
from tests.secrets.test_sops import FIXTURES, KEY


def key_at(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(KEY)
    path.chmod(0o600)
    return path


def sealed(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(FIXTURES / name, directory)
    return directory


def test_the_identity_is_looked_for_in_the_order_of_the_chain(tmp_path):
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="no age identity"):
        AgeIdentities(environ).find()
    key_at(tmp_path / ".config/sops/age/keys.txt")
    assert AgeIdentities(environ).find()[0] == "sops/age/keys.txt"
    environ["SOPS_AGE_KEY"] = KEY
    assert AgeIdentities(environ).find()[0] == "SOPS_AGE_KEY"
    environ["SOPS_AGE_KEY_FILE"] = str(key_at(tmp_path / "mine.txt"))
    assert AgeIdentities(environ).find()[0] == "SOPS_AGE_KEY_FILE"
    assert [s.name for s in AgeIdentities(environ).states() if s.present] == [
        "age identity: SOPS_AGE_KEY_FILE",
        "age identity: SOPS_AGE_KEY",
        "age identity: sops/age/keys.txt",
    ]
    credentials = tmp_path / "credentials"
    key_at(credentials / "age-identity").chmod(0o444)  # systemd keeps the directory
    environ["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert AgeIdentities(environ).find()[0].startswith("$CREDENTIALS_DIRECTORY")


def test_an_identity_that_others_may_read_or_that_is_none_is_refused(tmp_path):
    path = key_at(tmp_path / "k")
    path.chmod(0o640)
    with pytest.raises(AccessError, match="can be read by others"):
        AgeIdentities({"SOPS_AGE_KEY_FILE": str(path)}).find()
    with pytest.raises(ConfigError, match="no age identity") as caught:
        AgeIdentities({"SOPS_AGE_KEY": "AGE-SECRET-KEY-1WRONG"}).find()
    assert "WRONG" not in str(caught.value)
    with pytest.raises(ConfigError, match="not there"):
        AgeIdentities({"SOPS_AGE_KEY_FILE": str(tmp_path / "none")}).find()


@pytest.mark.parametrize("name", ["creds.yaml", "creds.json", "creds.env", "creds.age"])
def test_credentials_come_out_of_every_format(tmp_path, name):
    source = SealedSource(sealed(tmp_path / "d", name), AgeIdentities({"SOPS_AGE_KEY": KEY}))
    found = source.read()
    assert found[S3_ACCESS] == "FIXTUREACCESS"
    assert found[S3_SECRET].startswith("fixture")
    assert name in source.state().detail
    assert "fixture" not in source.state().detail


def test_files_that_disagree_or_do_not_open_end_the_search(tmp_path):
    identities = AgeIdentities({"SOPS_AGE_KEY": KEY})
    directory = sealed(tmp_path / "d", "creds.yaml", "creds.json")
    with pytest.raises(ConfigError, match="another s3-secret"):
        SealedSource(directory, identities).read()
    (directory / "creds.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a SOPS file"):
        SealedSource(directory, identities).read()


def test_a_changed_file_is_taken_up_by_whoever_asks_next(tmp_path):
    directory = sealed(tmp_path / "d", "creds.yaml")
    config = Config.model_validate({"secrets": {"sops_dir": directory}})
    chain = credential_chain(config, environ={"SOPS_AGE_KEY": KEY}, aws=False)
    first = chain.find(S3_ACCESS, S3_SECRET)
    assert first is not None
    assert first.values[S3_SECRET] == "fixture-secret-from-yaml"
    (directory / "creds.yaml").unlink()
    sealed(directory, "creds.json")
    again = chain.find(S3_ACCESS, S3_SECRET)
    assert again is not None
    assert again.values[S3_SECRET] == "fixture-secret-from-json"
    bad = (FIXTURES / "creds.json").read_text().replace("data:", "data:AA", 1)
    (directory / "creds.json").write_text(bad)
    with pytest.raises(IntegrityError):
        chain.find(S3_ACCESS, S3_SECRET)


def test_the_real_age_seals_what_is_opened_here_and_back(tmp_path):
    if shutil.which("age") is None:
        pytest.skip("the real age is not installed")
    identities = parse_identities(KEY, "k")
    recipient = str(identities[0].to_public())
    for extra in ([], ["-a"]):
        done = subprocess.run(
            ["age", *extra, "-r", recipient],
            input=b"s3-access = A",
            capture_output=True,
            check=True,
        )
        assert decrypt(done.stdout, identities, "f") == b"s3-access = A"
        bad = bytearray(done.stdout)
        bad[len(bad) // 2] ^= 1
        with pytest.raises(AccessError):
            decrypt(bytes(bad), identities, "f")


def test_an_openssh_key_is_an_identity_too(tmp_path):
    if shutil.which("ssh-keygen") is None or shutil.which("age") is None:
        pytest.skip("ssh-keygen or age is not installed")
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True
    )
    done = subprocess.run(
        ["age", "-R", tmp_path / "id.pub"], input=b"x", capture_output=True, check=True
    )
    identities = parse_identities((tmp_path / "id").read_text(), "id")
    assert decrypt(done.stdout, identities, "f") == b"x"
    assert os.stat(tmp_path / "id").st_mode & 0o77 == 0

"""The device's identity: kept durably, privately, and never twice in one place."""

from __future__ import annotations

import json
import os
import pickle
import stat

import pytest

from tcfs.device.identity import FileProtection, generate, load_identity, save_identity
from tcfs.errors import AccessError, IntegrityError, LocalFileError, NotFoundError, UsageError
from tcfs.host.system import SystemEntropy, system_host

HOST = system_host()


def protection(tmp_path):
    return FileProtection(HOST.files, os.fsencode(tmp_path / "identity.json"), HOST.entropy)


def identity(name="laptop"):
    return generate(name, SystemEntropy(), 1_700_000_000.5)


def test_an_identity_reads_back_and_still_signs(tmp_path):
    made = identity()
    save_identity(made, protection(tmp_path))
    found = load_identity(protection(tmp_path))
    assert found == made
    assert found.public_key == made.public_key
    assert found.recipient == made.recipient
    assert found.sign(b"x") == made.sign(b"x")
    assert found.created_at == 1_700_000_000


def test_its_file_is_for_its_owner_alone_and_nothing_else_is_left(tmp_path):
    save_identity(identity(), protection(tmp_path))
    assert os.listdir(tmp_path) == ["identity.json"]
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600


def test_an_identity_is_never_overwritten(tmp_path):
    first = identity()
    save_identity(first, protection(tmp_path))
    with pytest.raises(LocalFileError, match="already"):
        save_identity(identity(), protection(tmp_path))
    assert load_identity(protection(tmp_path)) == first
    assert os.listdir(tmp_path) == ["identity.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused_with_its_remedy(tmp_path, mode):
    save_identity(identity(), protection(tmp_path))
    (tmp_path / "identity.json").chmod(mode)
    with pytest.raises(AccessError) as error:
        load_identity(protection(tmp_path))
    assert "chmod 600" in error.value.remedy


def test_a_missing_identity_and_an_unreadable_place_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError):
        load_identity(protection(tmp_path))
    with pytest.raises(LocalFileError):
        save_identity(identity(), protection(tmp_path / "nowhere"))
    (tmp_path / "other").write_text("{}")
    (tmp_path / "identity.json").symlink_to("other")
    with pytest.raises(LocalFileError):
        load_identity(protection(tmp_path))


def test_a_damaged_file_is_an_error_that_shows_nothing_of_it(tmp_path):
    made = identity()
    save_identity(made, protection(tmp_path))
    path = tmp_path / "identity.json"
    good = json.loads(path.read_text())
    damaged = [json.dumps(good | {name: "zz" + str(good[name])}) for name in good if name != "name"]
    for text in [*damaged, "", "[]", path.read_text()[:-1]]:
        path.write_text(text)
        with pytest.raises(IntegrityError) as error:
            load_identity(protection(tmp_path))
        shown = str(error.value.to_json())
        assert made.age_secret not in shown
        assert made.signing_seed.hex() not in shown


def test_secrets_are_neither_shown_nor_pickled():
    made = identity()
    for shown in (repr(made), str(made), f"{made.record('admin')}"):
        assert made.age_secret not in shown
        assert made.signing_seed.hex() not in shown
        assert repr(made.signing_seed) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(made)


def test_a_name_that_cannot_be_in_a_file_name_is_refused():
    with pytest.raises(UsageError):
        identity("../evil")

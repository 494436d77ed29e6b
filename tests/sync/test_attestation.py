"""Enrollment that asks for a TPM's quote, against the real swtpm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcfs.device.attest import attestation_key, quote
from tcfs.errors import AccessError, IntegrityError
from tcfs.ledger.attestation import Required, verify_quote
from tcfs.sync import session
from tests.device.tpm import require_tpm, swtpm
from tests.sync.kit import World


def test_only_the_machine_on_the_list_enrolls_and_gets_keys_once_it_is_confirmed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_tpm()
    anna = world.device("anna")
    anna.fill({"a": "1"})
    anna.push()
    ben = world.device("ben", join=False)
    with swtpm(tmp_path / "t1") as good, swtpm(tmp_path / "t2") as other:
        listed = attestation_key({"TCFS_TPM_TCTI": good})
        assert listed == attestation_key({"TCFS_TPM_TCTI": good}), "the same each time"
        assert listed != attestation_key({"TCFS_TPM_TCTI": other})
        code = anna.fleet.invite(attest=[listed]).code
        monkeypatch.setenv("TCFS_TPM_TCTI", other)
        with pytest.raises(AccessError, match="not on the list"):
            session.enroll_fleet(ben.loaded, name="ben", invite=code)
        monkeypatch.setenv("TCFS_TPM_TCTI", good)
        session.enroll_fleet(ben.loaded, name="ben", invite=code)
    # A code alone opens nothing: the keys are not sealed to it.
    assert {p.code for p in ben.pull().problems} == {"access"}
    assert ben.contents() == {}
    assert [d.name for d in anna.fleet.access.confirm()] == ["ben"]
    ben.pull()
    assert ben.read("a") == b"1"


def test_a_claim_whose_quote_was_left_out_or_changed_admits_nobody(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_tpm()
    anna = world.device("anna")
    ben = world.device("ben", join=False)
    with swtpm(tmp_path / "t1") as tcti:
        code = anna.fleet.invite(attest=[attestation_key({"TCFS_TPM_TCTI": tcti})]).code
        # A program that does not bring one, and does not look.
        monkeypatch.setattr("tcfs.device.attest.quote", lambda *a: {"key": "00"})
        monkeypatch.setattr("tcfs.device.enroll.verify_quote", lambda *a: None)
        with pytest.raises(AccessError):
            session.enroll_fleet(ben.loaded, name="ben", invite=code)
    assert [d.name for d in anna.fleet.devices()] == ["anna"]
    assert any("TPM's quote" in f.reason for f in anna.fleet._context.view.findings)


def test_a_quote_holds_for_its_nonce_device_and_registers_alone(tmp_path: Path) -> None:
    require_tpm()
    with swtpm(tmp_path / "t1") as tcti:
        environ = {"TCFS_TPM_TCTI": tcti}
        key = frozenset({attestation_key(environ)})
        asked = Required(b"n" * 32, key, (0, 7))
        proof = quote(asked, b"k" * 32, environ)
    verify_quote(asked, b"k" * 32, proof)
    assert Required.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    for required, device, match in (
        (Required(b"m" * 32, key, (0, 7)), b"k" * 32, "another invite or device"),
        (asked, b"j" * 32, "another invite or device"),
        (Required(b"n" * 32, key, (7,)), b"k" * 32, "other PCRs"),
        (Required(b"n" * 32, key, (0, 7), b"d" * 32), b"k" * 32, "PCRs are not those"),
        (Required(b"n" * 32, frozenset(), (0, 7)), b"k" * 32, "not on the list"),
    ):
        with pytest.raises(IntegrityError, match=match):
            verify_quote(required, device, proof)
    for name in ("key", "quote", "signature"):
        good = bytes.fromhex(proof[name])
        for at in range(0, len(good), 3):
            bad = bytearray(good)
            bad[at] ^= 1
            with pytest.raises(IntegrityError):
                verify_quote(asked, b"k" * 32, proof | {name: bytes(bad).hex()})
        with pytest.raises(IntegrityError):
            verify_quote(asked, b"k" * 32, proof | {name: proof[name][:-2]})
    with pytest.raises(IntegrityError):
        verify_quote(asked, b"k" * 32, None)

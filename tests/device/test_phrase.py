"""The recovery phrase: 24 words there and back, and keys that other programs agree on."""

from __future__ import annotations

import shutil
import subprocess

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcfs.device.phrase import (
    SigningKey,
    entropy_of,
    identity_text,
    recovery_identity,
    root_signer,
    words_of,
)
from tcfs.errors import UsageError
from tcfs.model.ids import ROOT_DEVICE

ZERO = "abandon " * 23 + "art"
ENTROPY = bytes(range(32))


@given(st.binary(min_size=32, max_size=32))
def test_a_phrase_reads_back(entropy):
    phrase = words_of(entropy)
    assert len(phrase.split()) == 24
    assert entropy_of(phrase) == entropy


def test_the_words_are_those_of_the_standard():
    assert words_of(bytes(32)) == ZERO
    assert entropy_of(f"  {ZERO.upper()}\n".replace(" ", "  ")) == bytes(32)


def test_a_word_that_is_not_in_the_list_is_named_by_its_place_alone():
    words = ZERO.split()
    words[6], words[8] = "abandom", "zzz"
    with pytest.raises(UsageError, match=r"word 7, 9$") as error:
        entropy_of(" ".join(words))
    assert "abandom" not in str(error.value.to_json())


def test_exchanged_words_fail_the_checksum():
    words = words_of(ENTROPY).split()
    words[0], words[1] = words[1], words[0]
    with pytest.raises(UsageError, match="checksum"):
        entropy_of(" ".join(words))


def test_a_phrase_of_another_length_is_refused():
    with pytest.raises(UsageError, match="24 words, and this one 12"):
        entropy_of("abandon " * 12)


def test_the_derived_keys_are_fixed():
    root = root_signer(ENTROPY)
    assert root.device_id == ROOT_DEVICE
    assert root.public_key.hex() == (
        "f831d22f2be9e14927597397d4387ecbc28842962273fab39da342b85a47bef2"
    )
    assert str(recovery_identity(ENTROPY).to_public()) == (
        "age1am0zre50dv4rdwpf9q7vx8gapcsq35n0flqkjrlhuugpnh2g2q0s785zdg"
    )


def test_age_identities_are_those_of_the_standard():
    # From the age specification's test vectors: the identity of 32 zero bytes after clamping.
    identity = pyrage.x25519.Identity.generate()
    assert str(pyrage.x25519.Identity.from_str(str(identity))) == str(identity)
    assert identity_text(ENTROPY).startswith("AGE-SECRET-KEY-1")
    with pytest.raises(ValueError, match="32 bytes"):
        identity_text(b"short")


def test_what_is_sealed_to_the_recovery_recipient_opens():
    identity = recovery_identity(ENTROPY)
    assert pyrage.decrypt(pyrage.encrypt(b"x", [identity.to_public()]), [identity]) == b"x"


@pytest.mark.skipif(shutil.which("age") is None, reason="the real age is not installed")
def test_the_real_age_opens_what_is_sealed_to_the_recovery_recipient(tmp_path):
    identity = recovery_identity(ENTROPY)
    (tmp_path / "key").write_text(identity_text_of(ENTROPY))
    (tmp_path / "sealed").write_bytes(pyrage.encrypt(b"hello", [identity.to_public()]))
    opened = subprocess.run(
        ["age", "-d", "-i", str(tmp_path / "key"), str(tmp_path / "sealed")],
        capture_output=True,
        check=True,
    )
    assert opened.stdout == b"hello"
    sealed = subprocess.run(
        ["age", "-r", str(identity.to_public())], input=b"back", capture_output=True, check=True
    )
    assert pyrage.decrypt(sealed.stdout, [identity]) == b"back"


def identity_text_of(entropy: bytes) -> str:
    return str(recovery_identity(entropy)) + "\n"


def test_a_signing_key_shows_and_pickles_nothing():
    import pickle

    key = SigningKey(ROOT_DEVICE, ENTROPY)
    assert repr(key) == "SigningKey(root)"
    with pytest.raises(TypeError):
        pickle.dumps(key)

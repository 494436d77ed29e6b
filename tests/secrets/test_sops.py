"""SOPS files as the real sops wrote them: read alike, and refused once anything in them changed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tcfs.errors import AccessError, ConfigError, IntegrityError, TcfsError
from tcfs.secrets.age import parse_identities
from tcfs.secrets.sops import FORMATS, open_sops, opener_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sops"
KEY = (FIXTURES / "key.txt").read_text()
OPENER = opener_of(parse_identities(KEY, "key.txt"))


def opened(name, data=None):
    path = FIXTURES / name
    return open_sops(data or path.read_bytes(), FORMATS[path.suffix], OPENER, name).tree


def test_every_kind_of_leaf_is_read_and_the_mac_holds():
    assert opened("kinds.yaml") == {
        "s3": {"access": "AKIA_TEST_ACCESS", "secret": "s3cr3t-valüe"},
        "list": ["one", {"name": "two", "n": 3}],
        "flag": True,
        "off": False,
        "pi": 3.14159,
        "big": 1e21,
        "whole": 2.0,
        "count": 42,
        "none": None,
        "empty": "",
        "multi": "line 1\nline 2\n",
        "nested": [["deep"]],
    }
    assert opened("creds.json")["o"] == {"l": [1.0, "x", False]}
    assert opened("creds.env") == {
        "TCFS_S3_ACCESS": "FIXTUREACCESS",
        "TCFS_S3_SECRET": "fixture secret=from env",
        "EMPTY": "",
    }


def test_what_a_rule_leaves_in_the_clear_is_read_and_guarded_by_the_mac():
    found = opened("regex.yaml")
    assert found["password"] == "hunter2"
    assert found["name"] == "plain"
    text = (FIXTURES / "regex.yaml").read_text()
    for before, after in (("name: plain", "name: plaim"), ("hexa: 31", "hexa: 32")):
        assert before in text
        with pytest.raises(IntegrityError, match="MAC"):
            opened("regex.yaml", text.replace(before, after).encode())


def test_a_mac_over_encrypted_values_alone_leaves_the_others_free():
    text = (FIXTURES / "mac_only.yaml").read_text()
    assert opened("mac_only.yaml") == {"a_plain": 12, "secret": "x"}
    assert opened("mac_only.yaml", text.replace("a_plain: 12", "a_plain: 13").encode()) == {
        "a_plain": 13,
        "secret": "x",
    }


def test_a_value_that_moved_was_exchanged_or_removed_is_noticed():
    text = (FIXTURES / "creds.yaml").read_text()
    access, secret = re.findall(r"ENC\[[^\]]*\]", text)[:2]
    swapped = text.replace(access, "@").replace(secret, access).replace("@", secret)
    for bad in (
        swapped,
        text.replace("other: ", "another: "),
        re.sub(r"other: .*\n", "", text),
        text.replace(access, "in the clear"),
        text.replace(access, "12"),
        text.replace('lastmodified: "20', 'lastmodified: "19'),
        re.sub(r"    mac: .*\n", "", text),
    ):
        assert bad != text
        with pytest.raises(IntegrityError):
            opened("creds.yaml", bad.encode())


def test_every_changed_byte_of_a_file_is_noticed_or_changes_nothing():
    good = (FIXTURES / "creds.yaml").read_bytes()
    wanted = opened("creds.yaml")
    end = good.index(b"\nsops:")
    outcomes = []
    for at in range(0, end, 5):
        bad = bytearray(good)
        bad[at] ^= 1
        try:
            outcomes.append(opened("creds.yaml", bytes(bad)) == wanted)
        except TcfsError as error:
            outcomes.append("fixture-secret" not in str(error))
    assert all(outcomes)


def test_another_identity_opens_nothing_and_is_told_what_to_do(tmp_path):
    other = "AGE-SECRET-KEY-1" + "Q" * 58
    with pytest.raises(ConfigError):
        parse_identities(other, "there")
    import pyrage

    stranger = opener_of([pyrage.x25519.Identity.generate()])
    with pytest.raises(AccessError, match="not sealed to this machine") as caught:
        open_sops((FIXTURES / "creds.yaml").read_bytes(), "yaml", stranger, "f")
    assert "--add-age" in caught.value.remedy


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"a: 1\n", "yaml"),
        (b"- a\n", "yaml"),
        (b"a: &x [1]\nb: *x\nsops: {}\n", "yaml"),
        (b"a: [", "yaml"),
        (b"{}", "json"),
        (b'{"a": 1, "a": 2, "sops": {}}', "json"),
        (b"\xff", "json"),
        (b"no equals sign\n", "env"),
        (b"[" * 100_000, "json"),
        (b"{" * 1000, "yaml"),
        (b'{"sops": {"key_groups": [{}, {}]}}', "json"),
        (b'{"sops": {"kms": [{"arn": "x"}]}}', "json"),
    ],
)
def test_what_is_no_sops_file_or_needs_other_keys_is_said(data, kind):
    with pytest.raises(ConfigError):
        open_sops(data, kind, OPENER, "f")


def test_the_flat_names_are_those_of_the_maps():
    document = open_sops((FIXTURES / "creds.yaml").read_bytes(), "yaml", OPENER, "f")
    assert document.flat() == {
        "s3-access": "FIXTUREACCESS",
        "s3-secret": "fixture-secret-from-yaml",
        "other": "not-ours",
    }
    assert "fixture" not in repr(document)


def test_the_fixtures_are_those_that_sops_wrote():
    found = json.loads((FIXTURES / "creds.json").read_text())
    assert found["sops"]["version"] == "3.11.0"
    assert sorted(os.listdir(FIXTURES)) == [
        "README.md",
        "creds.age",
        "creds.env",
        "creds.json",
        "creds.yaml",
        "key.txt",
        "kinds.yaml",
        "mac_only.yaml",
        "regex.yaml",
    ]

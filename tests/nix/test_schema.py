"""One source: what pydantic knows of the settings is what Nix knows."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import settings as how
from hypothesis import strategies as st
from pydantic import ValidationError

from script.nixfiles import wanted
from tcfs.config.jsonschema import PATTERNS, is_secret
from tcfs.config.schema import Config, settings
from tcfs.rollout.names import camel, options
from tests.nix.support import NIX, ROOT, evaluate, needs_nix, schema_of


@pytest.mark.parametrize("name", ["nix/schema.json", "nix/program.json", "docs/nix.md"])
def test_what_is_generated_is_as_the_code_has_it(name: str):
    assert (ROOT / name).read_text() == wanted()[ROOT / name], "run script/nix"


@needs_nix
def test_nix_knows_every_setting_by_the_same_name_with_a_type_and_a_description():
    found = evaluate(
        "map (s: { inherit (s) option; inherit (s.field) description secret; "
        "kind = s.field.type.kind; }) lib.schema.all"
    )
    assert {s["option"] for s in found} == set(options())
    fields = dict(settings())
    for setting in found:
        key = options()[setting["option"]]
        assert setting["kind"] != "any", f"{key}: nix/lib/schema.nix does not know its type"
        assert setting["description"] == fields[key].description
        assert setting["secret"] == is_secret(key.partition(".")[2], fields[key])


@needs_nix
def test_names_are_made_alike_in_nix_and_python():
    keys = [key.partition(".")[2] for key, _ in settings()]
    text = json.dumps(keys)
    assert evaluate(f"map (import {NIX}/lib/text.nix).camel (builtins.fromJSON ''{text}'')") == [
        camel(key) for key in keys
    ]


def test_the_names_are_those_of_the_rfc():
    assert {
        "deviceName",
        "conflictMode",
        "syncGitDirs",
        "gitSyncMode",
        "natsUrl",
        "excludePatterns",
        "syncRoot",
    } <= set(options())


def test_files_of_secrets_are_known_by_their_names():
    secret = {key for key, field in settings() if is_secret(key.partition(".")[2], field)}
    assert {"storage.credentials_file", "secrets.kdbx_path", "sync.device_identity"} <= secret
    assert {"storage.client_key_path", "sync.nats_client_key"} <= secret
    assert not secret & {"storage.client_cert_path", "sync.nats_client_cert"}
    assert not secret & {"storage.ca_cert_path", "sync.sync_root", "sync.state_db"}


@pytest.mark.parametrize("key", PATTERNS)
@how(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_pattern_accepts_what_the_validator_accepts(key: str, data: st.DataObject):
    section, _, name = key.partition(".")
    pattern = PATTERNS[key][0]
    near = st.text(st.sampled_from("aZ0._-/@: "), max_size=12)
    schemes = st.sampled_from(["", "file://", "s3://", "http://", "nats://", "tls://", "file:"])
    text = data.draw(
        st.one_of(
            near,
            st.tuples(schemes, near).map("".join),
            st.from_regex(pattern, fullmatch=True).filter(str.isprintable),
        )
    )
    try:
        Config.model_validate({section: {name: text}})
        accepted = True
    except ValidationError:
        accepted = False
    matches = re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None
    # What Nix takes the program takes. (Where the program checks less, Nix may know better.)
    assert accepted or not matches
    if key not in ("sync.nats_url", "sync.nats_hub_url"):
        assert matches or not accepted


def test_the_bound_of_a_duration_is_in_the_schema():
    assert schema_of("sync.poll_interval")["minimum"] == 1

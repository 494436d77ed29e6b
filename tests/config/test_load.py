"""Where settings come from, which one wins, and what is said about wrong ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tcfs.config import Config, config_show, load_config, schema_json
from tcfs.config.load import ALIASES
from tcfs.config.schema import settings
from tcfs.config.show import redact_url
from tcfs.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    top = tmp_path / "home"
    top.mkdir()
    return top


def _load(home: Path, text: str | None = None, **more):
    """The configuration of a device with this file and these variables."""
    if text is not None:
        (home / "config.toml").write_text(text)
    overrides = more.pop("overrides", None)
    return load_config(overrides=overrides, environ={"TCFS_HOME": str(home)} | more)


def test_without_anything_there_are_defaults_and_an_embedded_store(home: Path):
    loaded = _load(home)
    assert loaded.config == Config()
    assert loaded.file is None
    assert loaded.embedded
    assert loaded.endpoint == (home / "data" / "store").as_uri()
    assert set(loaded.sources.values()) == {"default"}
    assert list(home.iterdir()) == []


def test_flag_wins_over_environment_over_file_over_default(home: Path):
    text = "[sync]\nconflict_mode = 'defer'\nworkers = 3\njobs = 2\n"
    env = {"TCFS_SYNC_CONFLICT_MODE": "interactive", "TCFS_SYNC_JOBS": "4"}
    loaded = _load(home, text, overrides={"sync.jobs": 1, "sync.memory_mb": None}, **env)
    sync = loaded.config.sync
    assert (sync.workers, sync.conflict_mode, sync.jobs, sync.memory_mb) == (
        3,
        "interactive",
        1,
        256,
    )
    assert loaded.sources["sync.workers"] == f"file {home}/config.toml"
    assert loaded.sources["sync.conflict_mode"] == "env TCFS_SYNC_CONFLICT_MODE"
    assert loaded.sources["sync.jobs"] == "flag"
    assert loaded.sources["sync.memory_mb"] == "default"


@pytest.mark.parametrize(("variable", "dotted"), ALIASES.items())
def test_variables_with_their_own_name_win_over_the_generic_ones(home: Path, variable, dotted):
    generic = f"TCFS_{dotted.replace('.', '_').upper()}"
    scheme = "nats" if dotted == "sync.nats_url" else "file"
    loaded = _load(home, **{variable: f"{scheme}:///one", generic: f"{scheme}:///other"})
    section, key = dotted.split(".")
    assert str(getattr(getattr(loaded.config, section), key)).endswith("one")
    assert loaded.sources[dotted] == f"env {variable}"


def test_every_setting_can_come_from_the_environment():
    names = [f"TCFS_{key.replace('.', '_').upper()}" for key, _ in settings()]
    assert len(set(names)) == len(names)


def test_an_empty_variable_counts_as_unset(home: Path):
    assert _load(home, TCFS_REMOTE="", TCFS_SYNC_JOBS="", TCFS_CONFIG="").config == Config()


def test_lists_come_from_variables_by_comma_or_as_json(home: Path):
    for text in ("*.tmp, a b", '["*.tmp", "a b"]'):
        loaded = _load(home, TCFS_SYNC_EXCLUDE_PATTERNS=text)
        assert loaded.config.sync.exclude_patterns == ("*.tmp", "a b")
    with pytest.raises(ConfigError, match="not a JSON list"):
        _load(home, TCFS_SYNC_EXCLUDE_PATTERNS="[oops")


def test_numbers_switches_and_durations_come_as_text(home: Path):
    loaded = _load(
        home,
        "[sync]\npoll_interval = '1m30s'\n",
        TCFS_SYNC_SYNC_GIT_DIRS="yes",
        TCFS_SYNC_MAX_DELETE_SHARE="0.25",
    )
    sync = loaded.config.sync
    assert (sync.poll_interval, sync.sync_git_dirs, sync.max_delete_share) == (90.0, True, 0.25)


def test_paths_in_a_file_are_relative_to_it_and_may_begin_with_a_tilde(home: Path, tmp_path: Path):
    text = "[sync]\nsync_root = '~/tree'\nstate_db = 'db/s.db'\nnats_ca_cert = '/etc/ca.pem'\n"
    loaded = _load(home, text, HOME="/home/me")
    sync = loaded.config.sync
    assert sync.sync_root == Path("/home/me/tree")
    assert sync.state_db == loaded.state_db == home / "db" / "s.db"
    assert sync.nats_ca_cert == Path("/etc/ca.pem")


def test_paths_in_the_environment_are_relative_to_the_working_directory(
    home, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    loaded = _load(home, TCFS_SYNC_SYNC_ROOT="tree", TCFS_REMOTE="./store")
    assert loaded.config.sync.sync_root == tmp_path / "tree"
    assert loaded.config.storage.endpoint == (tmp_path / "store").as_uri()


def test_a_sync_root_whose_name_is_not_utf8_is_kept_and_shown(home: Path):
    loaded = _load(home, TCFS_SYNC_SYNC_ROOT=os.fsdecode(b"/caf\xe9"))
    assert os.fsencode(str(loaded.config.sync.sync_root)) == b"/caf\xe9"
    assert json.loads(json.dumps(config_show(loaded)))["config"]["sync"]["sync_root"] == "/caf\\xe9"


def test_the_file_is_named_by_argument_then_variable_then_place(home: Path, tmp_path: Path):
    named = {}
    for name in ("flag", "env"):
        named[name] = tmp_path / f"{name}.toml"
        named[name].write_text(f"[sync]\nnamespace = '{name}'\n")
    (home / "config.toml").write_text("[sync]\nnamespace = 'place'\n")
    env = {"TCFS_HOME": str(home)}
    assert load_config(environ=env).config.sync.namespace == "place"
    env["TCFS_CONFIG"] = str(named["env"])
    assert load_config(environ=env).config.sync.namespace == "env"
    assert load_config(config_file=named["flag"], environ=env).config.sync.namespace == "flag"
    assert load_config(environ=env, use_file=False).config.sync.namespace == "default"


def test_a_named_file_must_be_there(home: Path):
    with pytest.raises(ConfigError, match="No such file") as caught:
        _load(home, TCFS_CONFIG="/nowhere/c.toml")
    assert "/nowhere/c.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        (
            "[sync]\nconflict_mod = 'auto'\n",
            "sync.conflict_mod",
            "Did you mean sync.conflict_mode?",
        ),
        ("[synk]\nworkers = 1\n", "synk", "Did you mean sync?"),
        ("conflict_mode = 'auto'\n", "conflict_mode", "Did you mean sync.conflict_mode?"),
        ("[storage]\nnats_url = 'x'\n", "storage.nats_url", "Did you mean sync.nats_url?"),
        (
            "[secrets]\nzzz = 1\n",
            "secrets.zzz",
            "age_identity, kdbx_path, kdbx_key_file, kdbx_entry, sops_dir",
        ),
        ("sync = 3\n", "sync", "[sync]"),
    ],
)
def test_unknown_settings_name_the_file_and_the_nearest_known_one(home: Path, text, key, hint):
    with pytest.raises(ConfigError) as caught:
        _load(home, text)
    assert key in caught.value.message
    assert str(home / "config.toml") in caught.value.message
    assert hint in caught.value.remedy


def test_unknown_overrides_are_errors_and_unknown_variables_warnings(home: Path):
    with pytest.raises(ConfigError, match=r"sync\.worker"):
        _load(home, overrides={"sync.worker": 3})
    loaded = _load(home, TCFS_SYNC_WORKER="3", TCFS_QUITE_ELSE="1", TCFS_S3_SECRET="hunter2")
    assert loaded.config == Config()
    assert loaded.warnings == (
        "unknown environment variable TCFS_QUITE_ELSE",
        "unknown environment variable TCFS_SYNC_WORKER; did you mean TCFS_SYNC_WORKERS?",
    )


def test_a_wrong_choice_lists_the_right_ones(home: Path):
    with pytest.raises(ConfigError) as caught:
        _load(home, "[sync]\nconflict_mode = 'defr'\ngit_sync_mode = 'tar'\n")
    error = caught.value
    assert "sync.conflict_mode from file" in error.message
    assert "did you mean 'defer'?" in error.message
    assert "sync.git_sync_mode from file" in error.message
    assert error.remedy == "Set sync.conflict_mode to one of: auto, interactive, defer."


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("storage.endpoint", "ftp://host/hunter2"),
        ("storage.endpoint", "hunter2"),
        ("storage.endpoint", "s3://key:hunter2@bucket"),
        ("storage.endpoint", "file://hunter2"),
        ("storage.prefix", "hunter2/../x"),
        ("storage.prefix", "/hunter2"),
        ("storage.remote_name", "hunter2/x"),
        ("sync.namespace", "HUNTER2 hunter2"),
        ("sync.device_name", "hunter2/x"),
        ("sync.poll_interval", "hunter2"),
        ("sync.poll_interval", "0s"),
        ("sync.workers", "hunter2"),
        ("sync.max_delete_share", "1.5"),
        ("sync.nats_url", 7),
        ("daemon.log_level", "hunter2"),
        ("sync.exclude_patterns", "hunter2"),
    ],
)
def test_wrong_values_are_told_by_key_and_source_and_never_by_value(home: Path, key, value):
    with pytest.raises(ConfigError) as caught:
        _load(home, overrides={key: value})
    told = json.dumps(caught.value.to_json())
    assert f"{key} from flag: " in told
    assert "hunter2" not in told
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_toml_is_told_by_place_alone(home: Path):
    with pytest.raises(ConfigError, match="line 2") as caught:
        _load(home, "[sync]\nnats_url = hunter2\n")
    assert "hunter2" not in str(caught.value.to_json())
    (home / "config.toml").write_bytes(b"[sync]\nnamespace = '\xff'\n")
    with pytest.raises(ConfigError, match="not TOML"):
        _load(home)


def test_what_is_shown_has_sources_places_and_no_credentials(home: Path):
    shown = config_show(_load(home, TCFS_NATS_URL="tls://me:hunter2@nats:4222,nats://t0ken@b"))
    assert shown["config"]["sync"]["nats_url"] == "tls://***@nats:4222,nats://***@b"
    assert shown["sources"]["sync.nats_url"] == "env TCFS_NATS_URL"
    assert shown["paths"]["config_file"] == str(home / "config.toml")
    assert shown["config"]["sync"]["state_db"] is None
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://b", "s3://b"),
        (
            "https://u:p@h/x?region=a&access_key=s3cr3t#f",
            "https://***@h/x?region=a&access_key=***#f",
        ),
        ("http://h/?X-Amz-Signature=abc&a=1", "http://h/?X-Amz-Signature=***&a=1"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_redaction_takes_credentials_and_nothing_else(text: str, shown: str):
    assert redact_url(text) == shown


def test_every_setting_has_a_description_in_the_schema():
    schema = json.loads(schema_json())
    for definition in schema["$defs"].values():
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            assert field.get("description"), name
            assert "default" in field, name
    done = subprocess.run(
        [sys.executable, "-m", "tcfs.config"], capture_output=True, text=True, check=True
    )
    assert done.stdout == schema_json()


def test_the_names_that_users_know_are_there():
    known = {
        "daemon": "socket listen metrics_addr log_level log_format",
        "storage": "endpoint region bucket credentials_file enforce_tls ca_cert_path",
        "secrets": "age_identity kdbx_path sops_dir",
        "sync": "nats_url nats_tls nats_ca_cert state_db workers max_retries device_identity "
        "device_name conflict_mode sync_git_dirs git_sync_mode sync_hidden_dirs exclude_patterns "
        "sync_root",
        "fuse": "negative_cache_ttl_secs cache_dir cache_max_mb",
        "crypto": "enabled master_key_file device_identity",
    }
    have = {key for key, _ in settings()}
    for section, names in known.items():
        assert {f"{section}.{name}" for name in names.split()} <= have


def test_importing_the_package_does_not_import_pydantic():
    code = "import sys, tcfs.config, tcfs.config.paths; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

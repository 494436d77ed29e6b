"""The places of a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tcfs.config.paths import HomePaths


def _places(platform: str = "linux", **environ: str) -> HomePaths:
    return HomePaths.from_environ({"HOME": "/home/me"} | environ, platform=platform)


def _all(paths: HomePaths) -> set[Path]:
    names = ("config_file", "identity_dir", "state_dir", "cache_dir", "data_dir", "runtime_dir")
    return {getattr(paths, name) for name in names}


def test_the_xdg_defaults_are_used_on_linux():
    paths = _places()
    assert paths.config_file == Path("/home/me/.config/tcfs/config.toml")
    assert paths.data_dir == Path("/home/me/.local/share/tcfs")
    assert paths.identity_dir == Path("/home/me/.local/share/tcfs/identity")
    assert paths.state_dir == Path("/home/me/.local/state/tcfs")
    assert paths.cache_dir == Path("/home/me/.cache/tcfs")
    assert paths.embedded_store == Path("/home/me/.local/share/tcfs/store")


def test_xdg_variables_are_followed_unless_relative():
    paths = _places(XDG_CONFIG_HOME="/c", XDG_DATA_HOME="relative", XDG_RUNTIME_DIR="/run/user/1")
    assert paths.config_file == Path("/c/tcfs/config.toml")
    assert paths.data_dir == Path("/home/me/.local/share/tcfs")
    assert paths.runtime_dir == Path("/run/user/1/tcfs")


@pytest.mark.parametrize(
    "environ",
    [{}, {"XDG_DATA_HOME": "/d"}, {"XDG_DATA_HOME": "/d", "XDG_STATE_HOME": "/d"}],
    ids=str,
)
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_no_two_places_are_one(platform: str, environ: dict[str, str]):
    assert len(_all(_places(platform, **environ))) == 6


def test_a_mac_uses_its_library_unless_xdg_says_otherwise():
    paths = _places("darwin")
    assert paths.data_dir == Path("/home/me/Library/Application Support/tcfs")
    assert paths.cache_dir == Path("/home/me/Library/Caches/tcfs")
    assert _places("darwin", XDG_CACHE_HOME="/x").cache_dir == Path("/x/tcfs")


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_tcfs_home_relocates_everything(tmp_path: Path, platform: str):
    top = tmp_path / "device"
    paths = _places(platform, TCFS_HOME=str(top), XDG_CONFIG_HOME="/c", XDG_RUNTIME_DIR="/r")
    for place in _all(paths) | {paths.embedded_store}:
        assert place.is_relative_to(top)
    assert not top.exists()


def test_tcfs_home_may_be_relative_or_begin_with_a_tilde(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _places(TCFS_HOME="here").data_dir == tmp_path / "here" / "data"
    assert _places(TCFS_HOME="~/dev").data_dir == Path("/home/me/dev/data")

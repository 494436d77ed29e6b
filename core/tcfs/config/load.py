"""Reading the configuration: defaults, then the file, then the environment, then flags.

Messages name the key and where its value came from, and never the value of a text setting, which
may hold a secret.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from msgspec import Struct
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tcfs.config.paths import HomePaths, absolute, user_home
from tcfs.config.schema import Config, is_list, is_path, sections, settings
from tcfs.errors import ConfigError

ALIASES: Final = {
    "TCFS_REMOTE": "storage.endpoint",
    "TCFS_NATS_URL": "sync.nats_url",
    "TCFS_SOCKET": "daemon.socket",
}
"""Variables with a name of their own. They win over the generic ``TCFS_SECTION_KEY``."""

OTHER_VARIABLES: Final = frozenset(
    {
        "TCFS_HOME",
        "TCFS_CONFIG",
        "TCFS_ACTOR",
        "TCFS_S3_ACCESS",
        "TCFS_S3_SECRET",
        "TCFS_S3_TOKEN",
        "TCFS_FILER_KEY",
        "TCFS_CLIENT_KEY_PASSWORD",
        "TCFS_OIDC_SECRET",
    }
)
"""Variables of ours that are no settings: places, and credentials for ``tcfs.secrets`` to read."""

Raw = dict[str, dict[str, Any]]


class LoadedConfig(Struct, frozen=True):
    """The configuration and where it came from.

    Attributes:
        config: validated values; every path in it is absolute.
        paths: this device's places.
        sources: for every setting ``default``, ``file <path>``, ``env <variable>`` or ``flag``.
        file: the file that was read, or None if there is none.
        warnings: what looked wrong and did no harm.
    """

    config: Config
    paths: HomePaths
    sources: dict[str, str]
    file: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def embedded(self) -> bool:
        """Whether the store is the embedded default, the only one ever created unasked."""
        return not self.config.storage.endpoint

    @property
    def endpoint(self) -> str:
        """The URL of the store in use, the embedded one included."""
        return self.config.storage.endpoint or self.paths.embedded_store.as_uri()

    @property
    def identity_dir(self) -> Path:
        """Directory of this device's keys."""
        return self.config.sync.device_identity or self.paths.identity_dir

    @property
    def state_db(self) -> Path:
        """Database of what this device last saw."""
        return self.config.sync.state_db or self.paths.state_dir / "state.db"


def load_config(
    *,
    config_file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    use_file: bool = True,
) -> LoadedConfig:
    """Read the configuration.

    Args:
        config_file: the file to read; otherwise ``TCFS_CONFIG``, otherwise the default one, which
            alone may be missing.
        overrides: values by dotted key, which win over everything; None values are passed over.
        environ: the environment; by default the process's own. An empty variable counts as unset.
        use_file: False to read no file at all.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or means nothing.
    """
    env = os.environ if environ is None else environ
    paths = HomePaths.from_environ(env)
    home = user_home(env)
    raw: Raw = {}
    sources = {key: "default" for key, _ in settings()}

    file = _config_file(config_file, env, paths, home) if use_file else None
    if file is not None:
        for dotted, value in _read_file(file):
            _put(raw, dotted, _located(dotted, value, home=home, base=file.parent))
            sources[dotted] = f"file {file}"
    from_env, warnings = _from_environ(env)
    for dotted, (variable, text) in from_env.items():
        value = _from_text(dotted, text, f"env {variable}")
        _put(raw, dotted, _located(dotted, value, home=home, base=Path.cwd()))
        sources[dotted] = f"env {variable}"
    for dotted, value in (overrides or {}).items():
        if value is None:
            continue
        if dotted not in sources:
            raise _unknown(dotted, "flag", sources)
        _put(raw, dotted, _located(dotted, value, home=home, base=Path.cwd()))
        sources[dotted] = "flag"

    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise _explained(error, sources) from None
    return LoadedConfig(config, paths, sources, file, tuple(warnings))


def _config_file(
    given: Path | None, env: Mapping[str, str], paths: HomePaths, home: Path
) -> Path | None:
    """The file to read, absolute, or None if there is just no default one."""
    if given is not None:
        return absolute(given, home=home, base=Path.cwd())
    if env.get("TCFS_CONFIG"):
        return absolute(env["TCFS_CONFIG"], home=home, base=Path.cwd())
    return paths.config_file if os.path.lexists(paths.config_file) else None


def _read_file(file: Path) -> list[tuple[str, Any]]:
    """The settings of a TOML file by dotted key. Raises ConfigError."""
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration file {file}: {error.strerror}",
            remedy="Name another one with --config or TCFS_CONFIG, or mend its rights.",
        ) from None
    except ValueError as error:
        # A TOMLDecodeError says what and where, without the text that stands there.
        raise ConfigError(
            f"the configuration file {file} is not TOML: {error}",
            remedy="Mend the file at that place.",
        ) from None
    known = {key for key, _ in settings()}
    found: list[tuple[str, Any]] = []
    for section, table in data.items():
        if section not in sections():
            raise _unknown(section, f"file {file}", known)
        if not isinstance(table, dict):
            raise ConfigError(
                f"{section} in file {file} should be a table",
                remedy=f"Write its settings below a line [{section}].",
            )
        for key, value in table.items():
            dotted = f"{section}.{key}"
            if dotted not in known:
                raise _unknown(dotted, f"file {file}", known)
            found.append((dotted, value))
    return found


def _from_environ(env: Mapping[str, str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Settings in the environment by dotted key, and what to warn of."""
    generic = {f"TCFS_{key.replace('.', '_').upper()}": key for key, _ in settings()}
    found: dict[str, tuple[str, str]] = {}
    warnings: list[str] = []
    for variable in sorted(env):
        if not variable.startswith("TCFS_") or not env[variable]:
            continue
        if variable in generic:
            found[generic[variable]] = (variable, env[variable])
        elif variable not in ALIASES and variable not in OTHER_VARIABLES:
            near = _nearest(variable, (*generic, *ALIASES, *OTHER_VARIABLES))
            hint = f"; did you mean {near}?" if near else ""
            warnings.append(f"unknown environment variable {_shown(variable)}{hint}")
    for variable, dotted in ALIASES.items():
        if env.get(variable):
            found[dotted] = (variable, env[variable])
    return found, warnings


def _from_text(dotted: str, text: str, source: str) -> Any:
    """A variable's value: lists as JSON or separated by commas, everything else as it is."""
    if not is_list(_field(dotted)):
        return text
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(
            f"{dotted} from {source} is not a JSON list",
            remedy='Write it like *.swp,.direnv or ["*.swp", ".direnv"].',
        ) from None


def _located(dotted: str, value: Any, *, home: Path, base: Path) -> Any:
    """The value with local paths made absolute, so that they mean the same from anywhere."""
    if is_path(_field(dotted)) and isinstance(value, str | Path):
        return absolute(value, home=home, base=base) if str(value) else None
    if dotted == "storage.endpoint" and isinstance(value, str):
        if value.startswith(("/", "./", "../", "~")) or value in (".", ".."):
            return absolute(value, home=home, base=base).as_uri()
        if value.startswith("file://~"):
            return absolute(value[7:], home=home, base=base).as_uri()
    return value


def _field(dotted: str) -> FieldInfo:
    section, _, key = dotted.partition(".")
    return sections()[section].model_fields[key]


def _put(raw: Raw, dotted: str, value: Any) -> None:
    section, _, key = dotted.partition(".")
    raw.setdefault(section, {})[key] = value


def _explained(error: ValidationError, sources: Mapping[str, str]) -> ConfigError:
    """The first thing that is wrong, by key and source, without the value itself."""
    problems: list[str] = []
    remedy = ""
    for item in error.errors(include_url=False, include_input=True, include_context=False):
        dotted = ".".join(str(part) for part in item["loc"][:2])
        reason = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        problems.append(f"{dotted} from {sources.get(dotted, 'default')}: {reason}")
        allowed = [str(choice) for choice in get_args(_field(dotted).annotation)]
        if item["type"] == "literal_error":
            remedy = remedy or f"Set {dotted} to one of: {', '.join(allowed)}."
            near = _nearest(str(item["input"]), allowed)
            if near:
                problems[-1] += f"; did you mean {near!r}?"
        remedy = remedy or f"Mend {dotted}; see all settings with: tcfs config show --defaults"
    return ConfigError("; ".join(problems), remedy=remedy, details={"problems": problems})


def _unknown(dotted: str, source: str, known: Iterable[str]) -> ConfigError:
    names = list(known)
    section, dot, key = dotted.partition(".")
    # Someone who forgot the section's name, or put the key under another one, means the key.
    near = _nearest(dotted, names) or next(
        (name for name in names if name.endswith(f".{key if dot else section}")), None
    )
    near = near or (None if dot else _nearest(section, sections()))
    if near:
        remedy = f"Did you mean {near}?"
    elif section in sections():
        remedy = f"The settings of [{section}] are: {', '.join(sections()[section].model_fields)}."
    else:
        remedy = "See all settings with: tcfs config show --defaults"
    return ConfigError(f"unknown setting {_shown(dotted)} from {source}", remedy=remedy)


def _nearest(word: str, choices: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.7)
    return found[0] if found else None


def _shown(name: str) -> str:
    """A key or variable that we do not know, on one line and without control characters."""
    return name.encode("unicode_escape").decode("ascii")[:100]

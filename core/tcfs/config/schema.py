"""Every setting: its name, type, default and meaning.

The names are the ones that users of tcfs know. The JSON schema of ``Config`` is what the Nix
modules make their options from, so a description here is what a host's owner reads there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic.fields import FieldInfo

from tcfs.config.units import parse_duration
from tcfs.errors import UsageError
from tcfs.model.ids import DEFAULT_NAMESPACE, check_device_name, check_namespace

ConflictMode = Literal["auto", "interactive", "defer"]
GitSyncMode = Literal["bundle", "raw"]
LogLevel = Literal["error", "warn", "info", "debug", "trace"]
LogFormat = Literal["text", "json"]

AddressingStyle = Literal["auto", "path", "virtual"]
AccessRole = Literal["none", "reader", "writer", "admin"]

ENDPOINT_SCHEMES = (
    "file",
    "s3",
    "http",
    "https",
    "s3+http",
    "s3+https",
    "seaweedfs",
    "seaweedfs+https",
)
_PREFIX = re.compile(r"([a-z0-9._-]+(/[a-z0-9._-]+)*)?")
_SAFE_URL = re.compile(
    r"https://[^@/?# ]+(/[^?# ]*)?|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?(/[^?# ]*)?"
)
_REMOTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _told(check: Callable[[str], Any], value: str) -> Any:
    """What ``check`` makes of the value; its remedy as pydantic wants to hear it otherwise."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(error.remedy) from None


def _duration(value: Any) -> Any:
    return _told(parse_duration, value) if isinstance(value, str) else value


Seconds = Annotated[
    float,
    BeforeValidator(_duration, json_schema_input_type=float | str),
]
"""A length of time: a number of seconds, or text such as ``30s`` or ``5m``."""


class Section(BaseModel):
    """A table of the TOML file. Unknown keys are errors: a misspelt setting must not be silent."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class DaemonConfig(Section):
    """The background service."""

    socket: Path | None = Field(default=None, description="Unix socket of the daemon.")
    listen: str = Field(
        default="", description="Address (host:port) for remote clients; empty for none."
    )
    metrics_addr: str = Field(
        default="",
        description=(
            "Address (host:port) of /metrics, /healthz and /readyz; empty for none. They name "
            "what is synced: keep it on a loopback address."
        ),
    )
    log_level: LogLevel = Field(default="info", description="Least severe message that is logged.")
    log_format: LogFormat = Field(default="text", description="Form of log lines.")
    rescan_interval: Seconds = Field(
        default=600.0,
        ge=1,
        description=(
            "Time between looks at all files, which find what watching them missed (in seconds, "
            "or text such as 10m)."
        ),
    )


class StorageConfig(Section):
    """The object store."""

    endpoint: str = Field(
        default="",
        description=(
            "Where objects live: file:///dir, the URL of an S3 server, s3://bucket at Amazon, or "
            "seaweedfs://host:8888/dir. Empty for a store embedded in this device's data directory."
        ),
    )
    region: str = Field(default="us-east-1", description="S3 region.")
    bucket: str = Field(
        default="tcfs", description="S3 bucket, where the endpoint's URL names none."
    )
    addressing_style: AddressingStyle = Field(
        default="auto",
        description=(
            "Whether the bucket stands in the path of an S3 URL or in its host name; auto is the "
            "path everywhere but at Amazon."
        ),
    )
    prefix: str = Field(default="", description="Prefix of every key, without slashes at its ends.")
    credentials_file: Path | None = Field(
        default=None,
        description="File with the store's credentials; kept out of this file on purpose.",
    )
    enforce_tls: bool = Field(default=False, description="Refuse endpoints without TLS.")
    ca_cert_path: Path | None = Field(
        default=None, description="Certificate authority (PEM) to trust for the endpoint."
    )
    client_cert_path: Path | None = Field(
        default=None,
        description="Certificate (PEM) that says who this device is to an endpoint that asks.",
    )
    client_key_path: Path | None = Field(
        default=None,
        description=(
            "Private key (PEM, mode 0600) of storage.client_cert_path. A new pair is taken up "
            "without a restart."
        ),
    )
    timeout: Seconds = Field(
        default=60.0,
        ge=1,
        description=(
            "Time without a byte after which a connection to the store counts as broken "
            "(in seconds, or text such as 30s)."
        ),
    )
    upload_limit: int = Field(
        default=0, ge=0, description="Bytes a second sent to the store; 0 for no limit."
    )
    download_limit: int = Field(
        default=0, ge=0, description="Bytes a second read from the store; 0 for no limit."
    )
    remote_name: str = Field(
        default="tcfs",
        description="First component of remote paths such as tcfs/default/notes.txt.",
    )

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if not value:
            return value
        scheme, separator, rest = value.partition("://")
        if not separator or scheme not in ENDPOINT_SCHEMES:
            raise ValueError(f"should begin with one of {', '.join(ENDPOINT_SCHEMES)} and ://")
        if "@" in rest.partition("/")[0]:
            raise ValueError("must not hold credentials; use storage.credentials_file")
        if scheme == "file" and not rest.startswith("/"):
            raise ValueError("should be file:/// and an absolute path")
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not _PREFIX.fullmatch(value) or any(p in (".", "..") for p in value.split("/")):
            raise ValueError("should be names of a-z, 0-9, '.', '_' and '-' joined by single '/'")
        return value

    @field_validator("remote_name")
    @classmethod
    def _remote_name(cls, value: str) -> str:
        if not _REMOTE_NAME.fullmatch(value):
            raise ValueError("should be letters, digits, '.', '_' and '-'")
        return value


class SecretsConfig(Section):
    """Where credentials come from."""

    age_identity: Path | None = Field(
        default=None, description="age identity that opens sealed secrets."
    )
    kdbx_path: Path | None = Field(default=None, description="KeePass database with credentials.")
    kdbx_key_file: Path | None = Field(
        default=None, description="Key file that opens the KeePass database."
    )
    kdbx_entry: str = Field(
        default="tcfs/s3",
        description="Path of the entry whose user name and password are the keys of the store.",
    )
    sops_dir: Path | None = Field(default=None, description="Directory of SOPS files.")
    expiry_warning: Seconds = Field(
        default=30 * 86400.0,
        ge=0,
        description=(
            "Time before certificates and NATS credentials expire from which status warns (in "
            "seconds, or text such as 30d)."
        ),
    )


class AuthConfig(Section):
    """Signing in at an OpenID provider such as a GitLab, and whom the MCP server lets in."""

    issuer: str = Field(
        default="",
        description=(
            "The provider's address as it names itself, such as https://gitlab.example.com; empty "
            "for none."
        ),
    )
    client_id: str = Field(
        default="", description="Id of the application that is registered at the provider."
    )
    confidential: bool = Field(
        default=False,
        description=(
            "Whether the application has a secret, which then comes from where credentials do, "
            "named oidc-secret."
        ),
    )
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile"),
        description="What is asked for when signing in; openid always is.",
    )
    audience: str = Field(
        default="",
        description=(
            "What tokens must be for, where that is not the application: the URL of the MCP "
            "server, if the provider makes such tokens (RFC 8707)."
        ),
    )
    device_endpoint: str = Field(
        default="",
        description=(
            "Where signing in with a code begins, if the provider does not tell: for a GitLab "
            "its address and /oauth/authorize_device."
        ),
    )
    ca_cert_path: Path | None = Field(
        default=None, description="Certificate authority (PEM) to trust for the provider."
    )
    servers: tuple[str, ...] = Field(
        default=(),
        description=(
            "URLs of MCP servers that may be shown this device's token. A token that is made for "
            "one server may be shown to that one anyway."
        ),
    )
    reader_groups: tuple[str, ...] = Field(
        default=(),
        description=(
            "Groups (full paths, such as org/team) whose members may use the reading tools of "
            "the MCP server."
        ),
    )
    writer_groups: tuple[str, ...] = Field(
        default=(), description="Groups whose members may also change files through it."
    )
    admin_groups: tuple[str, ...] = Field(
        default=(), description="Groups whose members may use every tool of it."
    )
    default_role: AccessRole = Field(
        default="none",
        description="What users of the provider may do that are in none of these groups.",
    )

    @field_validator("issuer", "device_endpoint")
    @classmethod
    def _safe(cls, value: str) -> str:
        if value and not _SAFE_URL.fullmatch(value):
            raise ValueError("should be an https URL without credentials, '?' and '#'")
        return value


class SyncConfig(Section):
    """What is kept the same, and how."""

    sync_root: Path | None = Field(
        default=None,
        description="Directory that push, pull and sync work on when no path is given.",
    )
    namespace: str = Field(
        default=DEFAULT_NAMESPACE, description="Namespace that paths without one belong to."
    )
    conflict_mode: ConflictMode = Field(
        default="auto",
        description=(
            "What a pull does about concurrent edits: settle them by the namespace's strategy, "
            "ask at the terminal, or leave them for later. No side is ever lost."
        ),
    )
    exclude_patterns: tuple[str, ...] = Field(
        default=("*.swp", "*.swo", ".direnv"),
        description="Names and paths that are not synced, as in .gitignore.",
    )
    sync_hidden_dirs: bool = Field(
        default=True, description="Sync directories whose name begins with a dot."
    )
    sync_git_dirs: bool = Field(default=False, description="Sync .git directories.")
    git_sync_mode: GitSyncMode = Field(
        default="bundle", description="How .git directories travel: as a bundle, or file by file."
    )
    max_delete_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Deleting more than this share of the files in one go needs a yes.",
    )
    max_delete_floor: int = Field(
        default=10, ge=0, description="Deleting at most this many files never needs a yes."
    )
    poll_interval: Seconds = Field(
        default=30.0,
        ge=1,
        description="Time between looks at the store (in seconds, or text such as 30s or 5m).",
    )
    jobs: int = Field(
        default=0,
        ge=0,
        description="Processes that chunk, compress and encrypt; 0 for one per core.",
    )
    workers: int = Field(
        default=8, ge=1, le=256, description="Transfers to and from the store at a time."
    )
    max_retries: int = Field(
        default=5, ge=0, description="Attempts after a failed request to the store."
    )
    memory_mb: int = Field(default=256, ge=64, description="Memory for data in flight, in MiB.")
    compression_level: int = Field(default=3, ge=1, le=19, description="zstd level of new data.")
    state_db: Path | None = Field(
        default=None,
        description="Database of what this device last saw; by default in its state directory.",
    )
    device_name: str = Field(
        default="",
        description="Name for this device when it is first set up; empty for the host's name.",
    )
    device_identity: Path | None = Field(
        default=None,
        description="Directory of this device's keys; by default in its data directory.",
    )
    nats_url: str = Field(
        default="",
        description=(
            "NATS server for live events, or several with commas between them; empty for none."
        ),
    )
    nats_tls: bool = Field(default=False, description="Require TLS to the NATS server.")
    nats_ca_cert: Path | None = Field(
        default=None, description="Certificate authority (PEM) to trust for the NATS server."
    )
    nats_client_cert: Path | None = Field(
        default=None,
        description="Certificate (PEM) that says who this device is to the NATS server.",
    )
    nats_client_key: Path | None = Field(
        default=None,
        description=(
            "Private key (PEM, mode 0600) of sync.nats_client_cert. A new pair is taken up "
            "without a restart."
        ),
    )
    nats_credentials_file: Path | None = Field(
        default=None,
        description=(
            "File that proves who this device is to the NATS server: a .creds file, an nkey seed, "
            "or one line, user:password or a token."
        ),
    )
    nats_hub_url: str = Field(
        default="",
        description=(
            "Where nats_url is a leaf node: the hub that events are exchanged with after the two "
            "were apart; empty for none."
        ),
    )
    nats_tell_paths: bool = Field(
        default=False,
        description=(
            "Name paths, hashes and sizes in the live events of an encrypted repository too. "
            "Whoever runs the NATS server can read them."
        ),
    )

    @field_validator("nats_url", "nats_hub_url")
    @classmethod
    def _nats_url(cls, value: str) -> str:
        for url in filter(None, value.split(",")):
            if url.strip().partition("://")[0] not in ("nats", "tls"):
                raise ValueError("should begin with nats:// or tls://")
        return value

    @field_validator("namespace")
    @classmethod
    def _namespace(cls, value: str) -> str:
        return str(_told(check_namespace, value))

    @field_validator("device_name")
    @classmethod
    def _device_name(cls, value: str) -> str:
        return str(_told(check_device_name, value)) if value else value


class FuseConfig(Section):
    """The mounted file system."""

    negative_cache_ttl_secs: int = Field(
        default=30, ge=0, description="Seconds for which a missing name is remembered as missing."
    )
    cache_dir: Path | None = Field(
        default=None, description="Directory of fetched content; by default in the cache directory."
    )
    cache_max_mb: int = Field(
        default=10240, ge=0, description="Most space for fetched content, in MiB."
    )


class CryptoConfig(Section):
    """End-to-end encryption."""

    enabled: bool = Field(
        default=True,
        description="Encrypt a repository that this device creates. Fixed once created.",
    )
    argon2_mem_cost_kib: int = Field(
        default=65536, ge=8192, description="Memory of the passphrase derivation, in KiB."
    )
    argon2_time_cost: int = Field(
        default=3, ge=1, description="Passes of the passphrase derivation."
    )
    argon2_parallelism: int = Field(
        default=4, ge=1, description="Lanes of the passphrase derivation."
    )
    master_key_file: Path | None = Field(
        default=None, description="File of a key kept by other means."
    )
    device_identity: Path | None = Field(default=None, description="age identity of this device.")


class Config(Section):
    """The whole configuration."""

    daemon: DaemonConfig = Field(default=DaemonConfig(), description="The background service.")
    storage: StorageConfig = Field(default=StorageConfig(), description="The object store.")
    secrets: SecretsConfig = Field(
        default=SecretsConfig(), description="Where credentials come from."
    )
    auth: AuthConfig = Field(
        default=AuthConfig(), description="Signing in at an OpenID provider such as a GitLab."
    )
    sync: SyncConfig = Field(default=SyncConfig(), description="What is kept the same, and how.")
    fuse: FuseConfig = Field(default=FuseConfig(), description="The mounted file system.")
    crypto: CryptoConfig = Field(default=CryptoConfig(), description="End-to-end encryption.")


def sections() -> dict[str, type[Section]]:
    """The tables of the TOML file by name."""
    return {name: field.annotation for name, field in Config.model_fields.items()}  # type: ignore[misc]


def settings() -> Iterator[tuple[str, FieldInfo]]:
    """Every setting as (``section.key``, its field)."""
    for section, model in sections().items():
        for key, field in model.model_fields.items():
            yield f"{section}.{key}", field


def is_path(field: FieldInfo) -> bool:
    """Whether the setting names a local file or directory."""
    return field.annotation is Path or Path in get_args(field.annotation)


def is_list(field: FieldInfo) -> bool:
    """Whether the setting is a list."""
    return getattr(field.annotation, "__origin__", None) is tuple

"""What goes wrong with stores behind a network: a class, a code and a remedy for each.

Those that derive from ``StoreRefused`` will not pass by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tcfs.errors import StoreError
from tcfs.store.base import StoreRefused
from tcfs.tls.trouble import Kind, TlsTrouble


class StoreUnreachable(StoreError):
    """Nobody answers at the endpoint, or not to the end."""

    code = "store_unreachable"
    default_remedy = (
        "Check that the server runs and the endpoint is right (tcfs config show), then run the "
        "command again: it goes on where it stopped."
    )


class StoreBusy(StoreError):
    """The server asks to be asked less."""

    code = "store_busy"
    default_remedy = "Run the command again later, or with fewer transfers: sync.workers."


class NotThatStore(StoreRefused):
    """Something else than the configured kind of server answers at the endpoint."""

    code = "not_that_store"
    default_remedy = "Check the address and its port with: tcfs config show"


class TlsFailed(StoreRefused):
    """No connection that can be trusted: the server speaks no TLS, or files of ours are no use."""

    code = "tls_failed"
    default_remedy = "Check the endpoint with: tcfs config show"


class ServerCertificateExpired(TlsFailed):
    """The server's certificate has expired, or is not valid yet."""

    code = "server_certificate_expired"


class ServerCertificateUnknown(TlsFailed):
    """No authority that is trusted here signed the server's certificate."""

    code = "server_certificate_unknown"


class ServerCertificateElsewhere(TlsFailed):
    """The server's certificate is another host's."""

    code = "server_certificate_elsewhere"


class ClientCertificateExpired(TlsFailed):
    """The certificate that says who we are has expired."""

    code = "client_certificate_expired"


class ClientCertificateWanted(TlsFailed):
    """The server asks for a client certificate, and none is configured."""

    code = "client_certificate_wanted"


class ClientCertificateRefused(TlsFailed):
    """The server does not trust the client certificate."""

    code = "client_certificate_refused"


_BY_KIND: Final[Mapping[Kind, type[TlsFailed]]] = MappingProxyType(
    {
        "server_expired": ServerCertificateExpired,
        "server_unknown": ServerCertificateUnknown,
        "server_elsewhere": ServerCertificateElsewhere,
        "client_expired": ClientCertificateExpired,
        "client_wanted": ClientCertificateWanted,
        "client_refused": ClientCertificateRefused,
    }
)


def tls_failure(trouble: TlsTrouble, where: str) -> TlsFailed:
    """The error for what went wrong with TLS at an endpoint."""
    kind = _BY_KIND.get(trouble.kind, TlsFailed)
    return kind(f"no trusted connection to {where}: {trouble.text}", remedy=trouble.remedy)


class CredentialsMissing(StoreRefused):
    """No source has credentials for this store."""

    code = "credentials_missing"
    default_remedy = (
        "Set TCFS_S3_ACCESS and TCFS_S3_SECRET, or name a file with them, mode 0600, in "
        "storage.credentials_file."
    )


class CredentialsRefused(StoreRefused):
    """The server does not know the key, or the secret does not belong to it."""

    code = "credentials_refused"
    default_remedy = (
        "Check the access key and its secret, or whether they have expired; where they come from "
        "is told by: tcfs-mcp call credential_status"
    )


class RightsMissing(StoreRefused):
    """The key is right and may not do that."""

    code = "rights_missing"
    default_remedy = (
        "Give this key the right to read, write, list and delete under the repository's prefix, "
        "or use another one."
    )


class ClockSkewed(StoreRefused):
    """This machine's clock and the server's differ too much for a signature."""

    code = "clock_skewed"
    default_remedy = "Set this machine's clock (timedatectl set-ntp true), or the server's."


class BucketMissing(StoreRefused):
    """There is no such bucket."""

    code = "bucket_missing"
    default_remedy = (
        "Check storage.bucket and the endpoint with: tcfs config show. tcfs init makes the bucket "
        "of a new repository, where its key may."
    )

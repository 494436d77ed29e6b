"""What goes wrong with stores behind a network: a class, a code and a remedy for each.

Those that derive from ``StoreRefused`` will not pass by themselves.
"""

from __future__ import annotations

from tcfs.errors import StoreError
from tcfs.store.base import StoreRefused


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
    """The server's certificate is not to be trusted, or it speaks no TLS."""

    code = "tls_failed"
    default_remedy = (
        "If the server has a certificate of your own, name its authority in storage.ca_cert_path; "
        "if it has none, write http:// in the endpoint."
    )


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

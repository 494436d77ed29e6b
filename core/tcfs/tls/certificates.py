"""What a certificate says of itself."""

from __future__ import annotations

from msgspec import Struct


class Certificate(Struct, frozen=True):
    """One certificate. Times are unix seconds.

    Attributes:
        subject, issuer: as RFC 4514 writes names; a stranger's text.
        fingerprint: SHA-256 of the whole, in hexadecimal.
    """

    subject: str
    issuer: str
    not_before: float
    not_after: float
    fingerprint: str


def read_certificates(pem: bytes) -> tuple[Certificate, ...]:
    """The certificates in a PEM file, in its order: a server's or client's own stands first.

    Raises:
        ValueError: there is none, or one that cannot be read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    return tuple(
        Certificate(
            subject=found.subject.rfc4514_string(),
            issuer=found.issuer.rfc4514_string(),
            not_before=found.not_valid_before_utc.timestamp(),
            not_after=found.not_valid_after_utc.timestamp(),
            fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        )
        for found in x509.load_pem_x509_certificates(pem)
    )

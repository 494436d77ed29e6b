"""Certificates for tests: an authority of one's own, and what it signs."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    cert: Path
    key: Path

    def write(self, other: Pair) -> None:
        """Put another pair in the place of this one, each file in one step."""
        for mine, new in ((self.cert, other.cert), (self.key, other.key)):
            temp = mine.with_suffix(".new")
            temp.write_bytes(new.read_bytes())
            temp.chmod(new.stat().st_mode & 0o777)
            temp.rename(mine)

    def server_context(self, clients: Authority | None = None) -> ssl.SSLContext:
        """What a server speaks TLS with; with ``clients`` it wants certificates of theirs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if clients is not None:
            context.load_verify_locations(clients.file)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class Authority:
    """Signs certificates; its own is in ``file``."""

    def __init__(self, directory: Path, name: str = "test authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self._count = 0
        self.file = directory / f"{name.replace(' ', '-')}.pem"
        made = (
            _builder(self._name, self._name, self._key.public_key(), -1, 3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(made.public_bytes(PEM))

    def pair(
        self,
        name: str,
        *,
        days: float = 365,
        since: float = -1,
        hosts: Sequence[str] = ("127.0.0.1",),
        password: bytes = b"",
    ) -> Pair:
        """A certificate for a server and client of that name.

        Args:
            days: from now until it expires; may be in the past.
            since: days from now at which it begins.
            hosts: names and addresses of a server.
            password: what its key is encrypted with.
        """
        self._count += 1
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            _builder(_named(name), self._name, key.public_key(), min(since, days - 1), days)
            .add_extension(x509.SubjectAlternativeName(list(map(_host, hosts))), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        files = Pair(
            self._directory / f"{name}-{self._count}.pem",
            self._directory / f"{name}-{self._count}.key",
        )
        files.cert.write_bytes(made.public_bytes(PEM))
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            protection = serialization.BestAvailableEncryption(password)
        files.key.touch(0o600)
        files.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, protection))
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(subject, issuer, public, since: float, days: float) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since * DAY)
        .not_valid_after(now + days * DAY)
    )

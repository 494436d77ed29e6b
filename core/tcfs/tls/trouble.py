"""What goes wrong with TLS, by one set of names for every server: kinds, words and remedies.

Sources: X509_V_ERR_* of OpenSSL's x509_vfy.h for what this side found wrong with the server; the
alerts of RFC 8446, 6.2, for what the server found wrong with us. With TLS 1.3 these come after
this side's handshake has ended, with the first thing that is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

if TYPE_CHECKING:
    import ssl

Kind = Literal[
    "server_expired",
    "server_unknown",
    "server_elsewhere",
    "server_refused",
    "no_tls",
    "client_expired",
    "client_wanted",
    "client_refused",
    "files",
]


class Names(Struct, frozen=True):
    """What the settings are called that name the files, for people."""

    ca: str
    cert: str
    key: str


class TlsTrouble(Exception):
    """A connection that cannot be trusted, or is not trusted. Callers make it an error of theirs.

    Attributes:
        kind: what is wrong.
        text: in words, without the server's name.
        remedy: what to do.
    """

    def __init__(self, kind: Kind, text: str, remedy: str) -> None:
        super().__init__(text)
        self.kind, self.text, self.remedy = kind, text, remedy


_EXPIRED: Final = 10
_NOT_YET: Final = 9
_UNKNOWN: Final = frozenset((2, 18, 19, 20, 21, 24, 26))
_ELSEWHERE: Final = frozenset((62, 63, 64))

_WANTED: Final = ("CERTIFICATE_REQUIRED",)
_CLIENT: Final = (
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
_NO_TLS: Final = frozenset(
    ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
)


def trouble_of(error: ssl.SSLError, names: Names, *, with_cert: bool) -> TlsTrouble:
    """What a failed handshake, or an alert after it, means.

    Args:
        names: of the settings that can mend it.
        with_cert: whether a client certificate was shown.
    """
    import ssl

    if isinstance(error, ssl.SSLCertVerificationError):
        return _server(error.verify_code, error.verify_message, names)
    reason = error.reason or ""
    if any(reason.endswith(word) for word in _WANTED):
        return _wanted(names)
    if reason.endswith("ALERT_CERTIFICATE_EXPIRED"):
        return TlsTrouble(
            "client_expired",
            "the server says that our client certificate has expired",
            f"Put a new certificate and its key where {names.cert} and {names.key} say.",
        )
    if "ALERT" in reason and any(reason.endswith(word) for word in _CLIENT):
        if not with_cert:  # what a server says of none at all, before TLS 1.3
            return _wanted(names)
        why = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        return TlsTrouble(
            "client_refused",
            f"the server does not take our client certificate: {why}",
            f"Have {names.cert} signed by an authority that the server trusts; the file is to hold "
            "the certificates between them, too.",
        )
    if reason in _NO_TLS:
        return TlsTrouble(
            "no_tls",
            f"it speaks no TLS ({_words(reason)})",
            "Check the address and its port; if the server has no TLS, write http:// or nats://.",
        )
    return TlsTrouble(
        "server_refused", _words(reason) or "no TLS", f"Check the server, and {names.ca}."
    )


def ssl_error_in(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS that others were wrapped around, as HTTP libraries do.

    None where the connection merely ended: that may pass.
    """
    import ssl

    ended = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        if isinstance(one, ssl.SSLError) and not isinstance(one, ended):
            return one
        seen.add(id(one))
        inner = getattr(one, "kwargs", None)
        waiting += [one.__cause__, one.__context__, *one.args]
        waiting += inner.values() if isinstance(inner, dict) else ()
    return None


def _server(code: int, message: str, names: Names) -> TlsTrouble:
    if code == _EXPIRED:
        return TlsTrouble(
            "server_expired",
            "the server's certificate has expired",
            "Renew it at the server; or set this machine's clock, if that is wrong.",
        )
    if code == _NOT_YET:
        return TlsTrouble(
            "server_expired",
            "the server's certificate is not valid yet",
            "Set this machine's clock (timedatectl set-ntp true), or the server's.",
        )
    if code in _ELSEWHERE:
        return TlsTrouble(
            "server_elsewhere",
            f"the server's certificate is another host's: {message}",
            "Write the address as the certificate has it, or have one made for this address.",
        )
    if code in _UNKNOWN:
        return TlsTrouble(
            "server_unknown",
            f"no authority that is trusted here signed the server's certificate: {message}",
            f"If the server has a certificate of your own, name its authority in {names.ca}.",
        )
    return TlsTrouble(
        "server_refused", f"the server's certificate: {message}", f"Check it, and {names.ca}."
    )


def _wanted(names: Names) -> TlsTrouble:
    return TlsTrouble(
        "client_wanted",
        "the server asks for a client certificate",
        f"Name one and its key in {names.cert} and {names.key}.",
    )


def _words(reason: str) -> str:
    return reason.lower().replace("_", " ")

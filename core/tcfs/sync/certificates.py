"""What this device shows to servers, and how long that is good for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tcfs.errors import TcfsError
from tcfs.model.paths import show
from tcfs.secrets.nats import SETTING, read_login
from tcfs.secrets.sources import credential_chain
from tcfs.secrets.tls import nats_tls, store_tls
from tcfs.tls.certificates import Certificate
from tcfs.tls.contexts import TlsFiles, authorities, own_certificate
from tcfs.tls.trouble import TlsTrouble

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig

DAY_S: Final = 86400.0


class CertificateInfo(Struct, frozen=True):
    """A certificate, an authority, or NATS credentials with a date. Never a key.

    Attributes:
        setting: that names its file.
        subject: whose it is.
        expires_at: unix seconds; 0 if it is not known, or never.
        problem: what is wrong, or will be soon; "" if nothing is.
        remedy: what to do.
    """

    setting: str
    subject: str = ""
    expires_at: float = 0.0
    problem: str = ""
    remedy: str = ""


def certificates(
    loaded: LoadedConfig, *, now: Callable[[], float] = time.time
) -> tuple[CertificateInfo, ...]:
    """All that is configured, read anew from its files. Raises nothing."""
    config = loaded.config
    chain = credential_chain(config)
    found: list[CertificateInfo] = []
    ahead = config.secrets.expiry_warning
    for files in (store_tls(config, chain, now=now), nats_tls(config, chain, now=now)):
        found += (_dated(info, ahead, now()) for info in _of(files))
    credentials = config.sync.nats_credentials_file
    if credentials is not None:
        try:
            login = read_login(credentials)
        except TcfsError as error:
            found.append(CertificateInfo(SETTING, problem=error.message, remedy=error.remedy))
        else:
            if login.expires is not None:
                info = CertificateInfo(SETTING, _printable(login.name), login.expires)
                found.append(_dated(info, ahead, now()))
    return tuple(found)


def expiry_warnings(infos: Iterable[CertificateInfo]) -> list[str]:
    """What to tell people of them."""
    return [f"{info.problem}. {info.remedy}".rstrip() for info in infos if info.problem]


def _of(files: TlsFiles) -> Iterator[CertificateInfo]:
    names = files.names
    try:
        known = authorities(files)
    except TlsTrouble as trouble:
        yield CertificateInfo(names.ca, problem=trouble.text, remedy=trouble.remedy)
    else:
        if known:
            # Of several, as while one takes another's place, the last one to expire counts.
            yield _info(names.ca, max(known, key=lambda one: one.not_after))
    if files.cert is None and files.key is None:
        return
    try:
        own = own_certificate(files)
    except TlsTrouble as trouble:
        yield CertificateInfo(names.cert, problem=trouble.text, remedy=trouble.remedy)
    else:
        if own is not None:
            yield _info(names.cert, own)


def _info(setting: str, certificate: Certificate) -> CertificateInfo:
    return CertificateInfo(setting, _printable(certificate.subject), certificate.not_after)


def _dated(info: CertificateInfo, ahead_s: float, now: float) -> CertificateInfo:
    """With a problem if it has expired, or will within so many seconds."""
    left = info.expires_at - now
    if info.problem or left > ahead_s:
        return info
    if left <= 0:
        problem = f"{info.setting}: {info.subject or 'it'} has expired"
    elif left < 2 * DAY_S:
        problem = f"{info.setting}: {info.subject or 'it'} expires in {left / 3600:.0f} hours"
    else:
        problem = f"{info.setting}: {info.subject or 'it'} expires in {left / DAY_S:.0f} days"
    return CertificateInfo(
        info.setting,
        info.subject,
        info.expires_at,
        problem,
        "Put a new one in its place: it is taken up without a restart.",
    )


def _printable(text: str) -> str:
    return show(text.encode("utf-8", "surrogatepass"))[:200]

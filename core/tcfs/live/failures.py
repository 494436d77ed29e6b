"""What goes wrong with the way to a NATS server: a class and a code for each.

None of them ends anything: files move by polling until the way is open again.
"""

from __future__ import annotations

import re

from tcfs.errors import LiveError, TcfsError
from tcfs.secrets.nats import SETTING
from tcfs.tls.trouble import Names, TlsTrouble, ssl_error_in, trouble_of


class NatsUntrusted(LiveError):
    """TLS with the server failed; the message says on which side."""

    code = "nats_untrusted"


class NatsLoginExpired(LiveError):
    """The JWT of this device has expired."""

    code = "nats_login_expired"
    default_remedy = (
        f"Put a new .creds file where {SETTING} says: it is taken up without a restart."
    )


class NatsLoginRefused(LiveError):
    """The server does not take who this device says it is."""

    code = "nats_login_refused"
    default_remedy = f"Check what {SETTING} holds against the server's users and accounts."


_EXPIRED = re.compile("(user|account) authentication expired", re.IGNORECASE)
_REFUSED = re.compile("authorization violation|authentication (revoked|timeout)", re.IGNORECASE)


def explained(error: BaseException, names: Names, *, with_cert: bool) -> BaseException:
    """The error as one of ours, where it is one of these; otherwise as it is.

    Args:
        names: of the settings that TLS rests on.
        with_cert: whether a client certificate was shown.
    """
    if isinstance(error, TcfsError):
        return error
    if isinstance(error, TlsTrouble):
        return _untrusted(error)
    inner = ssl_error_in(error)
    if inner is not None:
        return _untrusted(trouble_of(inner, names, with_cert=with_cert))
    text = str(error)
    if _EXPIRED.search(text):
        return NatsLoginExpired("the NATS server says that our credentials have expired")
    if _REFUSED.search(text):
        return NatsLoginRefused("the NATS server does not take our credentials")
    return error


def _untrusted(trouble: TlsTrouble) -> NatsUntrusted:
    return NatsUntrusted(
        f"no trusted connection to the NATS server: {trouble.text}", remedy=trouble.remedy
    )

"""Watching what this device shows to servers: when it expires, and that it was renewed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tcfs.service.daemon.counters import Counters
from tcfs.sync.certificates import CertificateInfo, certificates, expiry_warnings

if TYPE_CHECKING:
    from tcfs.config.load import LoadedConfig

log = logging.getLogger("tcfs.daemon")

EVERY_S: Final = 5.0
"""Certificates are looked at this often."""

_OK: Final = "tcfs_certificate_ok"
_WHEN: Final = "tcfs_certificate_expiry_timestamp_seconds"


class ExpiryWatch:
    """Certificates and NATS credentials in gauges, in the log once, and as warnings."""

    def __init__(self, loaded: LoadedConfig, counters: Counters) -> None:
        self._loaded = loaded
        self._counters = counters
        self._known: tuple[CertificateInfo, ...] = ()
        self._due = float("-inf")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with them, or will be soon."""
        return tuple(expiry_warnings(self._known))

    def again(self) -> None:
        """Look at them anew with the next ``look``, whenever that is."""
        self._due = float("-inf")

    def look(self, now: float) -> bool:
        """Look if it is time to, by a monotonic clock. Returns whether anything is different."""
        if now < self._due:
            return False
        self._due = now + EVERY_S
        before, told = self._known, self.warnings
        self._known = certificates(self._loaded)
        for warning in self.warnings:
            if warning not in told:
                log.warning("%s", warning)
        for gauge in (_OK, _WHEN):
            self._counters.forget(gauge)
        for one in self._known:
            self._counters.set(_OK, not one.problem, setting=one.setting)
            if one.expires_at:
                self._counters.set(_WHEN, one.expires_at, setting=one.setting)
        return self._known != before

"""What the AWS programs on this machine use: profiles, web identity, containers, instances."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tcfs.errors import ConfigError
from tcfs.secrets.chain import S3_ACCESS, S3_SECRET, S3_TOKEN, SourceState

_PERIOD: Final = 300.0
"""Seconds between looks at credentials that may have been renewed; botocore renews them 10 to 15
minutes before their end."""

_ON_AWS_ALONE: Final = ("container-role", "iam-role")


@dataclass(frozen=True)
class AwsSource:
    """The credentials that botocore's own chain finds, asked last.

    With ``custom_endpoint`` the services that give credentials on machines of AWS are not asked: no
    other server takes what they give, and elsewhere the asking takes seconds.
    """

    custom_endpoint: bool = False

    @property
    def name(self) -> str:
        return "AWS configuration"

    def state(self) -> SourceState:
        # Whether there is something is known only by opening it.
        return SourceState(self.name, False, "asked when no other source has any")

    def stamp(self) -> Hashable:
        return int(time.monotonic() / _PERIOD)

    def read(self) -> Mapping[str, str]:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            session: Any = Session()
            if self.custom_endpoint:
                resolver = session.get_component("credential_provider")
                for method in _ON_AWS_ALONE:
                    resolver.remove(method)
            found = session.get_credentials()
            frozen = None if found is None else found.get_frozen_credentials()
        except BotoCoreError as error:
            raise ConfigError(
                f"the AWS configuration cannot be used: {error}",
                remedy="Mend it, or set TCFS_S3_ACCESS and TCFS_S3_SECRET.",
            ) from None
        if frozen is None:
            return {}
        values = {S3_ACCESS: frozen.access_key, S3_SECRET: frozen.secret_key}
        if frozen.token:
            values[S3_TOKEN] = frozen.token
        return values

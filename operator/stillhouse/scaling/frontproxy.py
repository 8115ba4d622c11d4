"""Who asks: the API server forwards a request with a certificate of its own, and says in headers for whom. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.errors import EnvironmentProblem

__all__ = ["CONFIG_NAME", "CONFIG_NAMESPACE", "FrontProxy", "Unauthenticated", "User"]

CONFIG_NAMESPACE, CONFIG_NAME = "kube-system", "extension-apiserver-authentication"
"""The ConfigMap in which the API server says how it is to be known."""


class Unauthenticated(Exception):
    """It is not the API server that asks, or it does not say for whom. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class User:
    """For whom the API server asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """How the API server is known.

    `authority` (PEM) signs its certificate, `names` are its allowed common names (empty: any), and `user`, `group`, `uid` and
    `extra` the headers that it uses.
    """

    authority: str
    names: tuple[str, ...]
    user: tuple[str, ...]
    group: tuple[str, ...]
    uid: tuple[str, ...]
    extra: tuple[str, ...]

    @classmethod
    def of(cls, config_map: Mapping[str, Any]) -> FrontProxy:
        """Read the ConfigMap.

        Raises:
            EnvironmentProblem: the API server is not set up for aggregated APIs.
        """
        data = config_map.get("data") or {}
        authority = str(data.get("requestheader-client-ca-file") or "")
        if not authority.strip():
            raise EnvironmentProblem(
                "the API server does not forward requests to other APIs",
                field=f"ConfigMap {CONFIG_NAMESPACE}/{CONFIG_NAME}",
                found="no requestheader-client-ca-file",
                fix="start kube-apiserver with --requestheader-client-ca-file, or turn metricsAPI.enabled off",
            )
        return cls(
            authority=authority,
            names=_strings(data, "requestheader-allowed-names"),
            user=_strings(data, "requestheader-username-headers"),
            group=_strings(data, "requestheader-group-headers"),
            uid=_strings(data, "requestheader-uid-headers"),
            extra=tuple(each.lower() for each in _strings(data, "requestheader-extra-headers-prefix")),
        )

    def identify(self, certificate: Mapping[str, Any] | None, headers: Mapping[str, Any]) -> User:
        """Return for whom a request is made.

        `certificate` is that of the connection, which TLS has verified against `authority` (as of `SSLSocket.getpeercert`);
        `headers` a multi-dictionary.

        Raises:
            Unauthenticated: by whom it is made is not known.
        """
        if not certificate:
            raise Unauthenticated("no client certificate")
        subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
        name = subject.get("commonName", "")
        if self.names and name not in self.names:
            raise Unauthenticated("the client certificate is not that of the API server")
        user = next((headers[each] for each in self.user if headers.get(each)), "")
        if not user:
            raise Unauthenticated("the request does not say for whom it is made")
        getall = getattr(headers, "getall", lambda each, default: [headers[each]] if each in headers else default)
        extra: dict[str, tuple[str, ...]] = {}
        for header in headers:
            prefix = next((each for each in self.extra if header.lower().startswith(each)), "")
            if prefix:
                extra[header.lower().removeprefix(prefix)] = tuple(getall(header, []))
        return User(
            name=str(user),
            groups=tuple(value for each in self.group for value in getall(each, [])),
            uid=next((str(headers[each]) for each in self.uid if headers.get(each)), ""),
            extra=extra,
        )


def _strings(data: Mapping[str, Any], name: str) -> tuple[str, ...]:
    try:
        value = json.loads(data.get(name) or "[]")
    except ValueError:
        value = []
    return tuple(str(each) for each in value) if isinstance(value, list) else ()

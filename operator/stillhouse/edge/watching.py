"""A list and a watch of one Service's EndpointSlices, for as long as the gateway runs. That needs no client of Kubernetes.

While the API server is away, or refuses, who was known last goes on to be asked.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from stillhouse.edge.slices import Endpoints
from stillhouse.edge.wire.plain import Broken, asked
from stillhouse.errors import EnvironmentProblem

__all__ = ["Api", "Watcher"]

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_PAGE = 500
_WATCH_S = 240
"""Seconds for which a watch is asked for."""
_SILENT_S = 100.0
"""A watch that says nothing for so long is dead: bookmarks come about once a minute."""
_LIST_S = 30.0
_FIRST_S, _GROWS, _LONGEST_S = 0.2, 2.0, 30.0
"""Pauses after failures; each is shortened by chance to half at most, so that not all gateways come at once."""
_BETWEEN_S = 1.0
"""Longest pause between two watches, so that one which ends as it begins is not asked for without end. Nothing is missed."""
_LONGEST_LINE = 8 << 20
_GONE = 410

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API server is, and what is shown to it. Files are read for every request: a token lives for an hour.

    `authority` None: plain HTTP.
    """

    host: str
    port: int
    token: Path
    authority: Path | None

    @staticmethod
    def of_pod(environment: Mapping[str, str] = os.environ, account: Path = _ACCOUNT) -> Api:
        """Return that of the cluster whose pod this is.

        Raises:
            EnvironmentProblem: this is no pod, or one without a token.
        """
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host or not (account / "token").exists():
            raise EnvironmentProblem(
                "EndpointSlices are read in a cluster, by a pod with a token of its account",
                field="edge.kind",
                found="slices, and " + (f"no {account / 'token'}" if host else "no KUBERNETES_SERVICE_HOST"),
                fix="kind: backends names addresses",
            )
        return Api(host, int(port), account / "token", account / "ca.crt")

    def tls(self) -> ssl.SSLContext | None:
        """Return how it is spoken to.

        Raises:
            OSError: the authority cannot be read.
        """
        if self.authority is None:
            return None
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols(["http/1.1"])
        return context


class _Refused(Exception):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}"[:400])
        self.status = status


class Watcher:
    """Tells `update` the addresses of a Service's pods whenever they are others. `sleep`, `chance`: of the pauses."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        service: str,
        port: int,
        update: Callable[[Mapping[str, float]], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._api, self._update, self._sleep, self._chance = api, update, sleep, chance
        self.service = f"{namespace}/{service}"
        self._path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        self._selector = f"kubernetes.io/service-name={service}"
        self._endpoints = Endpoints(port)
        self._known: dict[str, float] | None = None
        self._version = ""
        self.failures = 0
        """Requests that failed, since the last that did not."""

    async def begin(self) -> None:
        """List once, so that the first request finds somebody; what fails is tried again by `run`."""
        try:
            await self._list()
        except (Broken, _Refused, OSError, ValueError, KeyError) as error:
            self._failed(error)

    async def run(self) -> None:
        """List and watch until it is cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                await self._sleep(_BETWEEN_S * self._chance())
            except _Refused as error:
                if error.status == _GONE:
                    self._version = ""  # too old: a list begins anew
                    await self._sleep(_FIRST_S * self._chance())
                    continue
                await self._pause(error)
            except (Broken, OSError, ValueError, KeyError) as error:
                await self._pause(error)

    async def _pause(self, error: Exception) -> None:
        self._failed(error)
        longest = min(_LONGEST_S, _FIRST_S * _GROWS ** min(self.failures - 1, 16))
        await self._sleep(longest * (1 - self._chance() / 2))

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        known = len(self._known or ())
        level = logging.WARNING if self.failures in (1, 10) or self.failures % 100 == 0 else logging.DEBUG
        _log.log(level, "endpoints of %s: %s; the %d that were known last are asked", self.service, error, known)

    def _told(self) -> None:
        addresses = self._endpoints.addresses()
        if addresses != self._known:
            self._known = addresses
            _log.info("endpoints of %s: %s", self.service, ", ".join(addresses) or "none")
            self._update(addresses)

    def _headers(self) -> dict[str, str]:
        return {
            "host": f"{self._api.host}:{self._api.port}",
            "authorization": f"Bearer {self._api.token.read_text().strip()}",
            "accept": "application/json",
            "user-agent": "stillhouse-gateway",
        }

    async def _list(self) -> None:
        items: list[dict[str, Any]] = []
        following = ""
        while True:
            query = {"labelSelector": self._selector, "limit": str(_PAGE), **({"continue": following} if following else {})}
            page = await self._get(f"{self._path}?{urlencode(query)}")
            items += page.get("items") or []
            following = str(page["metadata"].get("continue") or "")
            if not following:
                break
        self._endpoints.replace(items)
        self._version = str(page["metadata"]["resourceVersion"])
        self.failures = 0
        self._told()

    async def _get(self, target: str) -> dict[str, Any]:
        async with asked(self._api.host, self._api.port, target, self._headers(), self._api.tls()) as answer:
            body = b"".join([chunk async for chunk in answer.chunks(_LIST_S)])
            if answer.status != 200:
                raise _Refused(answer.status, _words(body))
        found: dict[str, Any] = json.loads(body)
        return found

    async def _watch(self) -> None:
        query = {
            "labelSelector": self._selector,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(_WATCH_S),
        }
        target = f"{self._path}?{urlencode(query)}"
        async with asked(self._api.host, self._api.port, target, self._headers(), self._api.tls()) as answer:
            if answer.status != 200:
                body = b"".join([chunk async for chunk in answer.chunks(_LIST_S)])
                raise _Refused(answer.status, _words(body))
            self.failures = 0
            rest = b""
            async for chunk in answer.chunks(_SILENT_S):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    raise ValueError("a watch's event is too long")
                for line in filter(None, lines):
                    self._event(json.loads(line))

    def _event(self, event: Mapping[str, Any]) -> None:
        kind, body = event["type"], event["object"]
        if kind == "ERROR":
            raise _Refused(int(body.get("code") or 0), str(body.get("message") or body.get("reason") or ""))
        self._version = str(body["metadata"]["resourceVersion"])
        if kind != "BOOKMARK":
            self._endpoints.see(kind, body)
            self._told()


def _words(body: bytes) -> str:
    try:
        return str(json.loads(body).get("message") or "")
    except (ValueError, AttributeError):
        return body[:200].decode("utf-8", "replace")

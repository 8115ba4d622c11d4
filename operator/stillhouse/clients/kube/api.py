"""A real API server, with the configuration, the authentication and the TLS of the `kubernetes` package.

Its typed models are not used: plain JSON in both directions takes a third of the CPU, and a field that is absent stays absent.
Nor is its HTTP session: that one asks for ~/.netrc in a thread before each request, a third of the operator's CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
import yaml
from kubernetes.aio import client, config

from stillhouse import __version__
from stillhouse.clients.kube.interface import FIELD_MANAGER, Body, Conflict, Invalid, Missing, Unavailable, refusal
from stillhouse.clients.kube.kinds import Kind
from stillhouse.clients.kube.versions import version_of
from stillhouse.errors import UsageError

__all__ = ["USER_AGENT", "KubeApi", "configure", "connect", "proxy_of"]

USER_AGENT = f"stillhouse/{__version__}"
PAGE = 500
"""Objects of one page of a list: bounds the memory of server and client."""
_TIMEOUT_S = 30.0
_UNUSABLE = (config.ConfigException, OSError, TypeError, yaml.YAMLError)
"""What a configuration raises that is not there or cannot be read; TypeError: an empty one."""
_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


async def configure(context: str = "") -> client.Configuration:
    """Return the configuration of the pod's service account, else of `KUBECONFIG` or `~/.kube/config`.

    Raises:
        UsageError: there is no configuration, or not that context.
    """
    configuration = client.Configuration()
    try:
        try:
            if context:
                raise config.ConfigException("a context was named")
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(context=context or None, client_configuration=configuration)
    except _UNUSABLE as error:
        there = _contexts() if context else []
        if there and context not in there:
            raise UsageError(
                "there is no such context",
                field="--context",
                found=context,
                allowed=", ".join(there),
                fix=f"--context {there[0]}",
            ) from error
        raise UsageError(
            "no cluster is configured", field="KUBECONFIG", found=str(error)[:300], fix="kubectl config get-contexts shows yours"
        ) from error
    return configuration


def _contexts() -> list[str]:
    """Return the names of the contexts that are configured, none where no configuration can be read."""
    try:
        return sorted(str(each["name"]) for each in config.list_kube_config_contexts()[0])
    except _UNUSABLE:
        return []


async def connect(context: str = "", *, connections: int = 32) -> KubeApi:
    """Connect as `configure` says. Raises the same."""
    configuration = await configure(context)
    configuration.connection_pool_maxsize = connections
    configuration.proxy = proxy_of(configuration)
    return KubeApi(configuration)


def proxy_of(configuration: client.Configuration) -> str | None:
    """Return the proxy of a configuration, else the environment's; None where the server is reached directly."""
    parts = urlsplit(str(configuration.host))
    named = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return configuration.proxy or named


class KubeApi:
    """`Kube` over HTTP. Use it as an async context manager, or close it."""

    def __init__(self, configuration: client.Configuration) -> None:
        configuration.retries = False  # the queue tries again, with the newest state
        self._host = str(configuration.host).rstrip("/")
        self._client = client.ApiClient(configuration)
        self._session: aiohttp.ClientSession | None = None
        ways = {"proxy": configuration.proxy, "proxy_headers": configuration.proxy_headers}
        ways["server_hostname"] = configuration.tls_server_name
        self._by_way_of: dict[str, Any] = {name: value for name, value in ways.items() if value}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()
        await self._client.close()

    async def version(self) -> str:
        """Return the server's version, such as `v1.34.4`."""
        return str((await self._send("GET", "/version")).get("gitVersion", ""))

    async def serves(self, kind: Kind) -> bool:
        """Return whether the server knows a kind."""
        try:
            found = await self._send("GET", kind.root)
        except Missing:
            return False
        return any(each.get("name") == kind.plural for each in found.get("resources") or [])

    async def get(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object, None where there is none."""
        try:
            return await self._send("GET", kind.path(namespace, name))
        except Missing:
            return None

    async def look(self, kind: Kind, namespace: str, name: str) -> Body | None:
        """Return an object's metadata alone, None where there is none."""
        try:
            return await self._send("GET", kind.path(namespace, name), accept=_METADATA)
        except Missing:
            return None

    async def find(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Body]:
        """Return the objects of a namespace that a label selector chooses, page by page."""
        found: list[Body] = []
        query = {"limit": str(PAGE), **({"labelSelector": labels} if labels else {})}
        while True:
            page = await self._send("GET", kind.path(namespace), query)
            found += _items(kind, page)
            more = page.get("metadata", {}).get("continue")
            if not more:
                return found
            query["continue"] = more

    async def find_cached(self, kind: Kind, namespace: str = "", labels: str = "") -> tuple[int, list[Body]]:
        """Return the version of the server's cache and what `find` returns, of that cache: nothing is read from its store.

        The cache may be behind what a watch has told; versions say so.
        """
        query = {"resourceVersion": "0", **({"labelSelector": labels} if labels else {})}
        page = await self._send("GET", kind.path(namespace), query)
        return version_of(page.get("metadata") or {}), _items(kind, page)

    async def create(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Create an object by POST."""
        return await self._send("POST", kind.path(namespace), {"fieldManager": manager}, body)

    async def apply(self, kind: Kind, namespace: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Apply an object that carries its uid."""
        metadata = body["metadata"]
        if not metadata.get("uid"):
            raise ValueError("an apply without uid would take over another's object")
        query = {"fieldManager": manager, "force": "true"}
        path = kind.path(namespace, metadata["name"])
        try:
            return await self._send("PATCH", path, query, body, "application/apply-patch+yaml")
        except Invalid as error:
            if "metadata.uid: Invalid value" not in error.problem.found:
                raise
            # So does 1.34 say that the object of this name is another one.
            raise Conflict("the object was made anew by another", status=409, field=f"PATCH {path}") from error

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        subresource: str = "",
        manager: str = FIELD_MANAGER,
    ) -> Body:
        """Patch an object."""
        form = "application/json-patch+json" if isinstance(patch, list) else "application/merge-patch+json"
        return await self._send("PATCH", kind.path(namespace, name, subresource), {"fieldManager": manager}, patch, form)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """Delete the object of that uid."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        with contextlib.suppress(Missing):
            await self._send("DELETE", kind.path(namespace, name), None, body)

    @contextlib.asynccontextmanager
    async def websocket(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Connect a WebSocket, such as that of a pod's exec.

        Raises:
            KubeError: the server refuses.
        """
        headers = {"User-Agent": USER_AGENT}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        try:
            socket = await self._connections().ws_connect(
                f"{self._host}{path}?{urlencode(query)}",
                headers=headers,
                protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"),
                heartbeat=_TIMEOUT_S,
                max_msg_size=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=5.0),
                **self._by_way_of,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise refusal(error.status, "", f"no WebSocket: {error.message}"[:300], f"GET {path}") from error
        async with socket:
            yield socket

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        form: str = "application/json",
        accept: str = "application/json",
    ) -> Body:
        headers = {"Accept": accept, "Content-Type": form, "User-Agent": USER_AGENT}
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        what = f"{method} {path}"
        data = None if body is None else orjson.dumps(body)
        try:
            # Refreshes the token where it is one that ends.
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
            async with self._connections().request(method, url, headers=headers, data=data, **self._by_way_of) as answer:
                content = await answer.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            told = f"{type(error).__name__}: {error}"[:300]
            raise Unavailable(
                "the API server does not answer",
                field=what,
                found=told,
                fix="is the cluster up, and is this the right KUBECONFIG and context? kubectl cluster-info",
            ) from error
        try:
            found = orjson.loads(content) if content else {}
        except ValueError:
            found = {}
        if not isinstance(found, dict):
            found = {}
        if answer.status >= 300:
            told = str(found.get("message") or content[:300].decode("utf-8", "replace"))
            details = found.get("details") or {}
            after = answer.headers.get("Retry-After") or details.get("retryAfterSeconds") or 0
            raise refusal(answer.status, str(found.get("reason", "")), told, what, _seconds(after))
        return found

    def _connections(self) -> aiohttp.ClientSession:
        if self._session is None:  # made where the loop runs
            rest = self._client.rest_client
            connector = aiohttp.TCPConnector(limit=rest.maxsize, ssl=rest.ssl_context)
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self._session


def _items(kind: Kind, page: Body) -> list[Body]:
    """Return the objects of a list's page, each with what the list leaves out of it."""
    return [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in page.get("items") or []]


def _seconds(text: Any) -> float:
    try:
        return max(0.0, float(text))
    except (TypeError, ValueError):
        return 0.0

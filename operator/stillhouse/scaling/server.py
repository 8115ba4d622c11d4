"""The metrics API over HTTP: what the API server's aggregator asks, and plain JSON for KEDA."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

from stillhouse.clients.kube.interface import KubeError
from stillhouse.errors import UsageError
from stillhouse.resources.metrics_api import GROUP, VERSION, WANTED
from stillhouse.scaling import external
from stillhouse.scaling.access import Access
from stillhouse.scaling.external import METRICS, Value
from stillhouse.scaling.frontproxy import FrontProxy, Unauthenticated, User

__all__ = ["MetricsApi"]

_log = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MetricsApi:
    """`values` returns what is known now; `unready` what is missing until requests can be answered, "" where nothing is.

    `front` is set as soon as it is known how the API server shows itself; until then nobody is answered. `tells` says whether
    figures are told without TLS and to everybody, as KEDA asks for them: nobody is where the external metrics are ours.
    """

    def __init__(
        self,
        access: Access,
        values: Callable[[], Mapping[str, list[Value]]],
        unready: Callable[[], str],
        registry: CollectorRegistry,
    ) -> None:
        self._access, self._values, self._unready, self._registry = access, values, unready, registry
        self._requests = Counter(
            "stillhouse_metrics_api_requests", "Answers of the metrics API, by status.", ["code"], registry=registry
        )
        self.front: FrontProxy | None = None
        self.tells = False

    def secure(self) -> web.Application:
        """Return the application behind TLS."""
        root = f"/apis/{GROUP}"
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        app.add_routes(
            [
                web.get("/healthz", self._alive),
                web.get("/livez", self._alive),
                web.get("/readyz", self._ready),
                web.get("/apis", _document(external.group_list)),
                web.get(root, _document(external.group)),
                web.get(f"{root}/{VERSION}", _document(external.resources)),
                web.get("/openapi/v2", _document(external.openapi_v2)),
                web.get("/openapi/v3", _document(lambda: {"paths": {}})),
                web.get(f"{root}/{VERSION}/namespaces/{{namespace}}/{{metric}}", self._metric),
            ]
        )
        return app

    def plain(self) -> web.Application:
        """Return the application without TLS: probes, our own metrics, and figures as JSON for KEDA's trigger `metrics-api`."""
        app = web.Application(client_max_size=4096)
        app.add_routes(
            [
                web.get("/healthz", self._alive),
                web.get("/readyz", self._ready),
                web.get("/metrics", self._own),
                web.get("/signals/{namespace}/{model}", self._signals),
            ]
        )
        return app

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._unready()
        return web.Response(status=503 if missing else 200, text=missing or "ok")

    async def _own(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _signals(self, request: web.Request) -> web.Response:
        if not self.tells:
            return web.json_response({"error": f"{GROUP} is ours here: ask the API server"}, status=404)
        key = (request.match_info["namespace"], request.match_info["model"])
        found = {
            name: each.value for name, values in self._values().items() for each in values if (each.namespace, each.model) == key
        }
        if WANTED not in found:  # no number: KEDA then keeps what runs
            return web.json_response({"error": "nothing is known of this model now"}, status=503)
        return web.json_response({_camel(name): round(value, 6) for name, value in sorted(found.items())})

    async def _metric(self, request: web.Request) -> web.Response:
        namespace, metric = request.match_info["namespace"], request.match_info["metric"]
        user: User = request["user"]
        if not await self._access.allowed(user, namespace, metric):
            return _refuse(403, "Forbidden", f'user "{user.name}" cannot list {metric}.{GROUP} in namespace "{namespace}"')
        if metric not in METRICS:
            return _refuse(404, "NotFound", f"there is no metric {metric}; there are: {', '.join(METRICS)}")
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        try:
            found = external.items(
                self._values().get(metric, []), metric, namespace, request.query.get("labelSelector", ""), moment
            )
        except UsageError as error:
            return _refuse(400, "BadRequest", f"{error}: {error.problem.found}")
        return web.json_response(external.value_list(found))

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Let nobody but the API server ask, and answer in the form that it knows."""
        answer = await self._guarded(request, handler)
        self._requests.labels(str(answer.status)).inc()
        return answer

    async def _guarded(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path in ("/healthz", "/livez", "/readyz"):
            return await handler(request)
        try:
            if self.front is None:
                raise Unauthenticated("it is not known yet how the API server shows itself")
            certificate = request.transport.get_extra_info("peercert") if request.transport else None
            request["user"] = self.front.identify(certificate, request.headers)
            return await handler(request)
        except Unauthenticated as why:
            return _refuse(401, "Unauthorized", str(why))
        except KubeError as error:
            _log.warning("a right could not be asked for: %s", error)
            return _refuse(503, "ServiceUnavailable", "the API server did not say whether this is allowed")
        except web.HTTPMethodNotAllowed:
            return _refuse(405, "MethodNotAllowed", "these are only read")
        except web.HTTPNotFound:
            return _refuse(404, "NotFound", "there is nothing of that name")


def _document(make: Callable[[], dict[str, Any]]) -> _Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(make())

    return answer


def _refuse(code: int, reason: str, message: str) -> web.Response:
    return web.json_response(external.refusal(code, reason, message), status=code)


def _camel(name: str) -> str:
    first, *rest = name.removeprefix("stillhouse_").split("_")
    return first + "".join(each.title() for each in rest)

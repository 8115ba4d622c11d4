"""kopf as the source of events: every event of what we watch goes into the controller's cache and queue, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol, cast

import aiohttp
import kopf
from kubernetes.aio import client

from stillhouse.clients.kube.api import USER_AGENT, configure, proxy_of
from stillhouse.clients.kube.kinds import Kind
from stillhouse.entrypoints.cluster.echoes import without_echoes
from stillhouse.entrypoints.cluster.patience import AGAIN_S, Backoffs, newest_token
from stillhouse.errors import ClusterError

__all__ = ["SILENCE_S", "Seer", "WatchesEnded", "watch"]

_SERVER_TIMEOUT_S = 300  # whole: the API server takes no fraction
_CONNECT_TIMEOUT_S = 10.0
SILENCE_S = 70.0


class Seer(Protocol):
    """Who takes in what a watch tells. `kinds` maps each kind that is watched to a label selector."""

    kinds: Mapping[Kind, str]

    def see(self, event: str, body: dict[str, Any]) -> None:
        """Take in one event: ADDED, MODIFIED, DELETED, or empty for what a list had."""

    def wrote(self, plural: str, version: int) -> bool:
        """Return whether an object's version is one that we wrote."""

    def writing(self) -> bool:
        """Return whether we write now."""


class WatchesEnded(ClusterError):
    """kopf met something that it cannot bear. It now cancels every task of the loop that is younger than itself."""


async def watch(
    controller: Seer,
    *,
    namespace: str,
    context: str,
    stop: asyncio.Event,
    ready: asyncio.Event,
    silence_s: float = SILENCE_S,
) -> None:
    """Watch what the controller has listed until `stop` is set. `namespace` empty: the whole cluster.

    A watch that is silent for `silence_s` is begun anew: bookmarks come about once a minute.

    kopf takes the signals of the process for itself, and ends in its own time; after `ready` is set they can be had back.

    Raises:
        WatchesEnded: kopf ends though nobody asked it to. End the process, and with `ending.ended_with`.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return _connection(await configure(context), without_echoes(controller.wrote, controller.writing))

    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.watching.server_timeout = _SERVER_TIMEOUT_S
    settings.watching.connect_timeout = _CONNECT_TIMEOUT_S
    settings.watching.inactivity_timeout = silence_s
    settings.watching.reconnect_backoff = AGAIN_S
    settings.networking.error_backoffs = Backoffs()
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0  # a task for each object that lately changed
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    for kind, selector in controller.kinds.items():
        group, _, version = kind.api_version.rpartition("/")
        if selector:
            settings.watching.label_selectors[group, version, kind.plural] = selector
        kopf.on.event(group, version, kind.plural, registry=registry, id=f"see-{kind.plural}")(_seer(controller, kind))
    logging.getLogger("kopf").setLevel(logging.WARNING)
    ends = asyncio.Event()

    @kopf.on.cleanup(registry=registry)
    async def leave(**_: Any) -> None:
        ends.set()

    running = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=settings,
            identity=cast("Any", "stillhouse"),  # of no use here, but kopf asks for the user's name, and a pod's has none
            standalone=True,
            clusterwide=not namespace,
            namespaces=[namespace] if namespace else [],
            stop_flag=stop,
            ready_flag=ready,
        )
    )
    await asyncio.wait([running, asyncio.create_task(ends.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not running.done() and not stop.is_set():
        raise WatchesEnded("the watches have ended by themselves")
    await running


class _NoDiffs(kopf.DiffBaseStorage):
    """Says that nothing is to be compared: no handler of ours asks, and copying every object took a third of the CPU."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing of handlers' progress: none of ours has any."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


def _seer(controller: Seer, kind: Any) -> Any:
    async def see(event: Mapping[str, Any], **_: Any) -> None:
        body = {"apiVersion": kind.api_version, "kind": kind.name, **dict(event["object"])}
        controller.see(str(event.get("type") or ""), body)

    return see


def _connection(configuration: client.Configuration, answers: type[aiohttp.ClientResponse]) -> kopf.AiohttpSession:
    """Return a session like kopf's own, but for its answers, and for its token, which is never an old one. kopf closes it."""
    place = kopf.ConnectionInfo(
        server=str(configuration.host),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=place.as_ssl_context()),
        headers={"User-Agent": USER_AGENT},
        middlewares=(newest_token(configuration),),
        proxy=proxy_of(configuration),
        response_class=answers,
        trust_env=False,
    )
    return kopf.AiohttpSession(server=place.server, aiohttp_session=session)

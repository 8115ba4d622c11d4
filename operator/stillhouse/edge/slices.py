"""Pods behind a Service, from its EndpointSlices: which of them take requests. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Endpoints"]

Body = Mapping[str, Any]
_PORT_NAME = "grpc"
_FAMILIES = ("IPv4", "IPv6")
"""In this order: of a pod with addresses of both, one is asked."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    pod: str
    address: str
    family: str
    serving: bool
    terminating: bool


class Endpoints:
    """The slices of one Service, as they are told. `port`: the number that is asked where none of its ports is named grpc.

    Who is ready and stays takes requests. Where there is nobody, who is on its way out and still answers does, as with the
    cluster's own Services: a rolling update may leave only those for a moment.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._slices: dict[str, Body] = {}

    def replace(self, slices: Iterable[Body]) -> None:
        """Take what a list says as all that there is."""
        self._slices = {str(each["metadata"]["name"]): each for each in slices}

    def see(self, event: str, body: Body) -> None:
        """Take in an event of a watch: ADDED, MODIFIED or DELETED."""
        name = str(body["metadata"]["name"])
        if event == "DELETED":
            self._slices.pop(name, None)
        else:
            self._slices[name] = body

    def addresses(self) -> dict[str, float]:
        """Return HOST:PORT of everybody who takes requests, all with one weight."""
        found = [each for body in self._slices.values() for each in _endpoints(body, self._port) if each.serving]
        chosen = [each for each in found if not each.terminating] or found
        one: dict[str, _Endpoint] = {}
        for each in chosen:  # a pod is in several slices while it moves between them, and in one of each family
            if each.pod not in one or _FAMILIES.index(each.family) < _FAMILIES.index(one[each.pod].family):
                one[each.pod] = each
        return {each.address: 1.0 for each in sorted(one.values(), key=lambda each: each.address)}


def _endpoints(body: Body, port: int) -> Iterator[_Endpoint]:
    family = str(body.get("addressType") or "")
    number = _number(body.get("ports") or [], port)
    if family not in _FAMILIES or number is None:
        return
    for each in body.get("endpoints") or []:
        hosts = each.get("addresses") or []
        if not hosts:
            continue
        said = each.get("conditions") or {}
        # Left out, `ready` is true and `serving` what `ready` is; of a Service that publishes those that are not ready, all are.
        serving = said.get("serving")
        if serving is None:
            serving = said.get("ready") is not False
        host = str(hosts[0])
        address = f"[{host}]:{number}" if family == "IPv6" else f"{host}:{number}"
        pod = str((each.get("targetRef") or {}).get("uid") or address)
        yield _Endpoint(pod, address, family, bool(serving), bool(said.get("terminating")))


def _number(ports: Iterable[Body], port: int) -> int | None:
    """Return where pods of a slice are asked; None of one that is of another port of the Service."""
    given = list(ports)
    named = next((each.get("port") for each in given if each.get("name") == _PORT_NAME), None)
    if named is not None:
        return int(named)
    return port if any(each.get("port") == port for each in given) else None

"""What a gateway says of itself at `/status`, as lines."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from stillhouse.entrypoints.edge.record import Gateway
from stillhouse.errors import ServerError

__all__ = ["fetch", "lines", "wait_for_larger"]

_PATIENCE_S = 5.0
_POLL_S = 0.1
_TELLING = 100
"""Requests from which shares are told: of fewer, a share is off by a tenth and more."""


def fetch(gateway: Gateway) -> dict[str, Any]:
    """Return a gateway's report, with where it listens.

    Raises:
        ServerError: it does not answer.
    """
    address = gateway.listen.get("metrics", "")
    host, _, port = address.rpartition(":")
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/status")
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                raise ServerError("the gateway gives no report", field=gateway.name, found=f"{answer.status} at {address}")
            report: dict[str, Any] = json.loads(content)
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServerError("the gateway does not answer", field=gateway.name, found=f"{address}: {error}") from error
    return {**report, "listen": dict(gateway.listen), "pid": gateway.pid}


def wait_for_larger(gateway: Gateway, patience_s: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """Return what is wrong with the larger model, once the gateway has looked for it or the patience is over."""
    until = time.monotonic() + patience_s
    while True:
        try:
            larger = (fetch(gateway).get("cloud") or {}).get("larger")
        except ServerError:
            return ""
        if not larger or larger["state"] != "unknown" or time.monotonic() >= until:
            return str((larger or {}).get("words", ""))
        sleep(_POLL_S)


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a report as lines of text."""
    model = report["model"]
    what = f"{str(model['digest'])[7:19]} ({model['variant']})"
    yield f"{model['name']}  {what} at {report['listen']['grpc']}, process {report['pid']}"
    if model["threshold"] is not None:
        yield f"  threshold    {model['threshold']:.4f}"
    elif (report.get("cloud") or {}).get("breakers"):  # without a cascade there is neither
        yield "  threshold    none: everything escalates"
    cloud = report.get("cloud") or {}
    yield from _economics(report.get("economics") or {}, larger=bool(cloud.get("breakers")))
    if trouble := (cloud.get("larger") or {}).get("words"):
        yield f"  larger model {trouble}"
    for name, breaker in (cloud.get("breakers") or {}).items():
        again = f", asks again in {breaker['retryInSeconds']:.1f} s" if breaker["state"] == "open" else ""
        yield f"  breaker      {name}: {breaker['state']}{again}; opened {breaker['opened']} times, {breaker['refused']} refused"
    for address, link in (cloud.get("brokers") or {}).items():
        state = "connected" if link["connected"] else f"not connected: {link['words']}"
        yield f"  broker       {address} as {link['device']}: {state}"
    queue = cloud.get("queue")
    if queue is not None:
        yield (
            f"  queue        {queue['waiting']} waiting ({queue['waitingBytes']} bytes, oldest {queue['oldestSeconds']:.0f} s)"
            f", {queue['delivered']} delivered, {queue['failed']} failed, {queue['expired']} expired, {queue['refused']} refused"
        )
    elif cloud.get("breakers"):  # else there is nobody that could be away
        yield f"  when away    {cloud.get('policy', 'answer')}"
    yield from _agreement(report.get("agreement"))


def _economics(found: dict[str, Any], *, larger: bool) -> Iterator[str]:
    """Yield counts, and of enough requests shares and costs. Without a `larger` model nobody's calls are avoided."""
    if not found:
        return
    told = found["requests"] >= _TELLING
    money = f" {found['currency']}" if found["currency"] else ""
    yield f"  answers      {found['answers']} to {found['requests']} requests"
    if larger and found["requests"]:
        yield f"  escalated    {found['escalated']}" + (f" ({found['escalationRate']:.1%})" if told else "")
        late = f", {found['cloudCallsLate']} of them late" if found.get("cloudCallsLate") else ""
        compared = f", {found['comparisons']} to compare" if found["comparisons"] else ""
        avoided = f"; {found['cloudCallsAvoided']} ({found['cloudCallsAvoidedShare']:.1%}) avoided" if told else ""
        yield f"  cloud calls  {found['cloudCalls']}{late}{compared}{avoided}"
    if found["answeredAway"]:
        yield f"  away         {found['answeredAway']} requests answered here because the larger model did not answer"
    if not told:
        if found["requests"]:
            yield f"  shares       too few requests: they are told, and costs, from {_TELLING} on"
        return
    if found["cpuSecondsPerAnswer"] is not None:
        yield f"  CPU          {1000 * found['cpuSecondsPerAnswer']:.3g} s a thousand answers"
    if found["costPerThousand"] is not None:
        without = found["costPerThousandWithoutEdge"] if larger else None
        saved = f", without the edge {without:.4g}{money}: {found['savedShare']:.1%} saved" if without else ""
        yield f"  cost         {found['costPerThousand']:.4g}{money} a thousand answers{saved}"


def _agreement(found: dict[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    reasons = "; ".join(f"{each['type']}: {each['message']}" for each in found.get("reasons", ()))
    yield f"  agreement    {found['state']}{': ' + reasons if reasons else ''}"
    figures = found.get("figures") or {}
    for name in ("agreement", "escalation", "psi"):
        value = figures.get(name)
        if isinstance(value, dict) and value.get("estimate") is not None:
            yield f"               {name} {value['estimate']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
        elif isinstance(value, int | float):
            yield f"               {name} {value:.4f}"

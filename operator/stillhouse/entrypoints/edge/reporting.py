"""What a gateway says of itself at `/status`, as lines."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

from stillhouse.entrypoints.edge.record import Gateway
from stillhouse.errors import ServerError

__all__ = ["fetch", "lines"]

_PATIENCE_S = 5.0


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


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield a report as lines of text."""
    model = report["model"]
    what = f"{str(model['digest'])[7:19]} ({model['variant']})"
    yield f"{model['name']}  {what} at {report['listen']['grpc']}, process {report['pid']}"
    threshold = model["threshold"]
    yield f"  threshold    {'none: everything escalates' if threshold is None else f'{threshold:.4f}'}"
    yield from _economics(report.get("economics") or {})
    cloud = report.get("cloud") or {}
    for name, breaker in (cloud.get("breakers") or {}).items():
        again = f", asks again in {breaker['retryInSeconds']:.1f} s" if breaker["state"] == "open" else ""
        yield f"  breaker      {name}: {breaker['state']}{again}; opened {breaker['opened']} times, {breaker['refused']} refused"
    queue = cloud.get("queue")
    if queue is not None:
        yield (
            f"  queue        {queue['waiting']} waiting ({queue['waitingBytes']} bytes, oldest {queue['oldestSeconds']:.0f} s)"
            f", {queue['delivered']} delivered, {queue['failed']} failed, {queue['expired']} expired, {queue['refused']} refused"
        )
    else:
        yield f"  when away    {cloud.get('policy', 'answer')}"
    yield from _agreement(report.get("agreement"))


def _economics(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {_number(each)}" for key, each in value.items())
            yield f"  {_words(name):<12} {shown}"
        else:
            yield f"  {_words(name):<12} {_number(value)}"


def _agreement(found: dict[str, Any] | None) -> Iterator[str]:
    if not found:
        return
    for name, value in found.items():
        yield f"  {_words(name):<12} {json.dumps(value) if isinstance(value, dict | list) else _number(value)}"


def _words(name: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

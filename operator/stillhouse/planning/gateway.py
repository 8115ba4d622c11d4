"""The gateway's configuration, from a spec and a place. Pure: the operator and `still edge` write the same file.

A place says what differs between an edge machine and a cluster: where files lie, who listens where, which leg answers first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stillhouse.api.edge import Agreement, Away, Edge, Prices, Queued
from stillhouse.api.guarding import Audit, Clients, Guard
from stillhouse.api.scalars import parse_duration, parse_percent, parse_quantity

__all__ = ["CONFIG_VERSION", "MESSAGE", "Place", "gateway_config"]

CONFIG_VERSION = 1
MESSAGE = 64 << 20
"""Bytes of a message where no guard says otherwise."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway runs.

    `edge` is the leg that answers first, `larger` the other one (None: neither cascade nor cut nor steps before a model).
    `middle` is asked between the two (None: nobody). All are as the configuration has them; `listen` maps grpc, rest and
    metrics to HOST:PORT. Folders and files are paths there: `cascade` of the artifact, `data` for what is written (queue,
    audit log, collected requests), `tls`, `authority`, `tokens`, `audit_key` as they are mounted.
    """

    listen: Mapping[str, str | None]
    edge: Mapping[str, Any]
    larger: Mapping[str, Any] | None
    cascade: str
    data: str
    tls: Mapping[str, str | None] | None = None
    tokens: str | None = None
    audit_key: str | None = None
    middle: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def gateway_config(name: str, edge: Edge, place: Place) -> dict[str, Any]:
    """Return the configuration file of the gateway before the model `name`, in plain units (bytes, seconds, shares)."""
    listen = {each: place.listen.get(each) for each in ("grpc", "rest", "metrics")}
    if not edge.rest:
        listen["rest"] = None
    cascade = None
    if edge.cascade is not None and place.larger is not None:
        outliers = edge.cascade.outliers.policy if edge.cascade.outliers else "escalate"
        cascade = {"folder": place.cascade, "outliers": outliers, "larger": dict(place.larger)}
        cascade |= {"middle": dict(place.middle)} if place.middle is not None else {}
    steps = {}
    if edge.preprocess is not None and place.larger is not None:
        steps = {"preprocess": {"encoding": edge.preprocess.encoding, "larger": dict(place.larger)}}
    if edge.cut is not None and place.larger is not None:
        steps = {"cut": {"upper": dict(place.larger)}}
    return {
        "version": CONFIG_VERSION,
        "name": name,
        "listen": listen,
        "tls": dict(place.tls) if place.tls else None,
        "edge": dict(place.edge),
        "cascade": cascade,
        "away": _away(edge.away, place),
        "clients": _clients(edge.clients, place),
        "guard": _guard(edge.guard, place) if edge.guard else None,
        "agreement": _agreement(edge, edge.agreement, place) if edge.agreement and cascade else None,
        "prices": _prices(edge.prices) if edge.prices else None,
        "telemetry": (
            {"endpoint": edge.telemetry.endpoint, "sample": parse_percent(edge.telemetry.sample)} if edge.telemetry else None
        ),
        "maxInFlight": edge.max_in_flight,
        **steps,
        **place.extra,
    }


def _away(away: Away, place: Place) -> dict[str, Any]:
    queue = None
    if away.policy == "queue":
        bounds = away.queue or Queued()
        queue = {
            "folder": f"{place.data}/queue",
            "maxSize": parse_quantity(bounds.max_size),
            "maxAge": parse_duration(bounds.max_age),
        }
    return {"policy": away.policy, "hedge": away.hedge, "queue": queue}


def _clients(clients: Clients, place: Place) -> dict[str, Any]:
    return {
        "tokens": place.tokens,
        "rate": clients.rate,
        "burst": clients.burst if clients.burst is not None else clients.rate,
        "concurrency": clients.concurrency,
    }


def _guard(guard: Guard, place: Place) -> dict[str, Any]:
    return {
        "maxRows": guard.max_rows,
        "maxTextLength": guard.max_text_length,
        "maxMessageSize": parse_quantity(guard.max_message_size),
        "patterns": [
            {"name": each.name, "regex": each.regex, "named": each.named, "action": each.action} for each in guard.patterns
        ],
        "audit": _audit(guard.audit, place) if guard.audit else None,
    }


def _audit(audit: Audit, place: Place) -> dict[str, Any]:
    return {
        "folder": f"{place.data}/audit",
        "mode": audit.mode,
        "key": place.audit_key,
        "raw": audit.raw,
        "keep": parse_duration(audit.keep),
        "maxSize": parse_quantity(audit.max_size),
    }


def _agreement(edge: Edge, agreement: Agreement, place: Place) -> dict[str, Any]:
    least = agreement.min_agreement or (edge.cascade.target_agreement if edge.cascade else None)
    collect = agreement.collect
    return {
        "sample": parse_percent(agreement.sample),
        "minAgreement": parse_percent(least) if least else None,
        "maxDrift": float(agreement.max_drift),
        "collect": {"folder": f"{place.data}/collected", "maxSize": parse_quantity(collect.max_size)} if collect else None,
    }


def _prices(prices: Prices) -> dict[str, Any]:
    return {
        "currency": prices.currency,
        "cpuHour": float(prices.cpu_hour) if prices.cpu_hour else None,
        "cloudCall": float(prices.cloud_call) if prices.cloud_call else None,
    }

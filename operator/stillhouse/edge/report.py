"""What `/status` answers and `still edge status` prints: one JSON document, made of what the parts know of themselves.

A part that a gateway does not have is null. Readers ignore names that they do not know; `version` rises when one changes its
meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillhouse.edge.agreement.watch import Observed
from stillhouse.edge.away.breaker import Snapshot
from stillhouse.edge.away.records import Stand
from stillhouse.edge.economics import Economics

__all__ = ["VERSION", "AtBroker", "Served", "report"]

VERSION = 1


@dataclass(frozen=True, slots=True)
class Served:
    """What a gateway serves. `threshold`: None where everything escalates. `policy`: what is done when the cloud is away."""

    model: str
    variant: str
    digest: str
    threshold: float | None
    policy: str


@dataclass(frozen=True, slots=True)
class AtBroker:
    """A connection to a broker. `words`: why there is none."""

    broker: str
    device: str
    connected: bool
    words: str


def report(
    served: Served,
    *,
    uptime_s: float,
    economics: Economics,
    breakers: Mapping[str, Snapshot],
    queue: Stand | None,
    agreement: Observed | None,
    brokers: Iterable[AtBroker] = (),
    larger: Mapping[str, Any] | None = None,
    labels: tuple[str, str] | None = None,
    served_digest: str | None = None,
) -> dict[str, Any]:
    """Put the document together; `breakers` by what they guard (a pool's name or a backend's address).

    `larger`: what its server said of the larger model (`probing.Probe`). `labels`: its labels beside ours; why it is not used.
    `served_digest`: another one than the calibration's.
    """
    links = {each.broker: _link(each) for each in brokers}
    return {
        "version": VERSION,
        "model": {
            "name": served.model,
            "variant": served.variant,
            "digest": served.digest,
            "threshold": served.threshold,
            "calibration": None if served_digest is None else {"stale": True, "servedDigest": served_digest},
        },
        "uptimeSeconds": round(uptime_s, 3),
        "cloud": {
            "policy": served.policy,
            "labels": None if labels is None else {"state": labels[0], "words": labels[1]},
            "breakers": {name: _breaker(each) for name, each in sorted(breakers.items())},
            "larger": None if larger is None else dict(larger),
            "queue": None if queue is None else _queue(queue),
            "brokers": links or None,
        },
        "economics": economics.to_json(),
        "agreement": None if agreement is None else agreement.to_json(),
    }


def _link(seen: AtBroker) -> dict[str, Any]:
    return {"connected": seen.connected, "device": seen.device, "words": seen.words}


def _breaker(seen: Snapshot) -> dict[str, Any]:
    return {
        "state": seen.state.value,
        "requests": seen.requests,
        "failures": seen.failures,
        "retryInSeconds": round(seen.retry_in, 3),
        "opened": seen.opened,
        "refused": seen.refused,
    }


def _queue(stand: Stand) -> dict[str, Any]:
    return {
        "waiting": stand.waiting,
        "waitingBytes": stand.waiting_bytes,
        "oldestSeconds": round(stand.oldest, 3),
        "inDelivery": stand.in_delivery,
        "outcomes": stand.outcomes,
        "accepted": stand.accepted,
        "delivered": stand.delivered,
        "failed": stand.failed,
        "expired": stand.expired,
        "refused": stand.refused,
        "damagedFiles": stand.damaged,
        "unsaved": stand.unsaved,
    }

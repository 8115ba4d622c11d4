"""Events of transitions: the story that `kubectl describe` tells. Pure, and with the same name from two operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.model import API_VERSION, KIND
from stillhouse.digests import content_hash
from stillhouse.resources.wanted import Owner

__all__ = ["transitions"]

_NORMAL = ("Building", "RollingOut", "Pinned", "Serving", "AwaitingCollection")


def transitions(owner: Owner, before: Mapping[str, Any], after: Mapping[str, Any], instance: str) -> list[dict[str, Any]]:
    """Return Events of the conditions whose status or reason has changed, one for a reason, `Ready` first."""
    known = {each["type"]: (each["status"], each["reason"]) for each in before.get("conditions") or []}
    found: list[dict[str, Any]] = []
    told: set[str] = set()
    for each in sorted(after["conditions"], key=lambda condition: condition["type"] != "Ready"):
        new = known.get(each["type"]) != (each["status"], each["reason"])
        if not new or each["reason"] in told or not _tells(each, known):
            continue
        told.add(each["reason"])
        warns = each["status"] == "False" and each["reason"] not in _NORMAL
        identity = [
            owner.uid,
            each["type"],
            each["status"],
            each["reason"],
            each["lastTransitionTime"],
            each["observedGeneration"],
        ]
        found.append(
            {
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": f"{owner.name}.{content_hash(identity)[:16]}", "namespace": owner.namespace},
                "eventTime": _micro(each["lastTransitionTime"]),
                "type": "Warning" if warns else "Normal",
                "reason": each["reason"][:128],
                "action": f"{each['type']}{each['status']}",
                "note": (each["message"] or each["reason"])[:1024],
                "regarding": {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": owner.name,
                    "namespace": owner.namespace,
                    "uid": owner.uid,
                },
                "reportingController": "stillhouse.io/operator",
                "reportingInstance": instance[:128],
            }
        )
    return found


def _tells(condition: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Return whether a condition's change is part of the story: what follows from another, or is so at first, is not."""
    kind, status = condition["type"], condition["status"]
    if kind == "Ready":
        return True
    if kind == "Available":
        return bool(known)
    if kind == "GatePassed":
        return bool(status != "Unknown")
    return bool(kind in ("Accepted", "Built") and status == "False")


def _micro(moment: str) -> str:
    return moment.replace("Z", ".000000Z")

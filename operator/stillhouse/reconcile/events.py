"""Events of transitions: the story that `kubectl describe` tells. Pure, and with the same name from two operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.api.model import API_VERSION, KIND
from stillhouse.digests import content_hash
from stillhouse.resources.wanted import Owner

__all__ = ["transitions"]

_TOLD = ("Accepted", "Built", "GatePassed", "Available", "Ready")
_NORMAL = ("Building", "RollingOut", "Pinned", "Serving")


def transitions(owner: Owner, before: Mapping[str, Any], after: Mapping[str, Any], instance: str) -> list[dict[str, Any]]:
    """Return an Event for each condition whose status or reason has changed."""
    known = {each["type"]: (each["status"], each["reason"]) for each in before.get("conditions") or []}
    found = []
    for each in after["conditions"]:
        if each["type"] not in _TOLD or known.get(each["type"]) == (each["status"], each["reason"]):
            continue
        warns = each["status"] == "False" and each["reason"] not in _NORMAL and not (each["type"] == "Available" and not known)
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


def _micro(moment: str) -> str:
    return moment.replace("Z", ".000000Z")

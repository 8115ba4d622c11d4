"""What a stage leaves in its termination message: at most 4 KiB of JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stillhouse.entrypoints.local.text import interval
from stillhouse.planning.request import to_record

__all__ = ["LIMIT", "candidates", "lineage", "message", "record"]

LIMIT = 4096
"""Bytes that the kubelet keeps of a termination message."""
_REASON = 160


def record(revision: Mapping[str, Any], *, gated: bool) -> dict[str, Any]:
    """Return the parts of a ModelRevision that a build knows, of a revision as `entrypoints.local.state` has it."""
    return {
        "digest": revision["digest"],
        "index": revision.get("index"),
        "precision": revision["precision"],
        "size": revision["size"],
        "reason": "GatePassed" if gated else "NoGate",
        "metrics": [{"name": name, "value": interval(name, figure)} for name, figure in list(revision["figures"].items())[:32]],
        "candidates": candidates(revision["candidates"]),
        "lineage": lineage(revision["lineage"]),
        "serve": to_record(revision["serve"]),
    }


def lineage(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a build was made of, in a bounded size."""
    sources = [{**each, "uri": each["uri"][:_REASON]} for each in known["sources"][:16]]
    return {"sources": sources, "toolchain": [{**each, "value": each["value"][:_REASON]} for each in known["toolchain"][:32]]}


def candidates(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every candidate of a gate, with the first limit that it missed."""
    found = []
    for each in report[:32]:
        checks = each.get("checks") or []
        missed = next((check.get("text", "") for check in checks if check.get("outcome") != "passed"), "")
        outcome = each.get("outcome", "")
        found.append(
            {
                "precision": each.get("precision", ""),
                "outcome": outcome if outcome in ("passed", "failed", "inconclusive") else "untried",
                "digest": each.get("digest") or "",
                "size": int(each.get("size") or 0),
                "reason": missed[:_REASON],
            }
        )
    return found


def message(parts: Mapping[str, Any]) -> bytes:
    """Return the termination message.

    What does not fit goes, in this order: candidates' reasons, URIs, candidates, metrics, lineage, the text.
    """
    data = json.loads(json.dumps(parts))
    for shorten in (_reasons, _uris, _candidates, _metrics, _lineage, _text):
        content = _bytes(data)
        if len(content) <= LIMIT:
            return content
        shorten(data)
    return _bytes(data)


def _bytes(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


def _reasons(data: Any) -> None:
    for each in (data.get("record") or {}).get("candidates") or []:
        each["reason"] = ""


def _uris(data: Any) -> None:
    for each in ((data.get("record") or {}).get("lineage") or {}).get("sources") or []:
        each["uri"] = ""


def _candidates(data: Any) -> None:
    if data.get("record"):
        data["record"].pop("candidates", None)


def _metrics(data: Any) -> None:
    if data.get("record"):
        data["record"].pop("metrics", None)


def _lineage(data: Any) -> None:
    if data.get("record"):
        data["record"].pop("lineage", None)


def _text(data: Any) -> None:
    room = LIMIT - len(_bytes({**data, "message": ""})) - 16
    data["message"] = str(data.get("message", "")).encode()[: max(0, room) // 2].decode("utf-8", "ignore")

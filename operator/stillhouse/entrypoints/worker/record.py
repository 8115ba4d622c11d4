"""What a stage leaves in its termination message: at most 2 KiB of JSON. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from stillhouse.entrypoints.local.text import interval
from stillhouse.planning.packed import PACKED, pack
from stillhouse.planning.request import to_record

__all__ = ["LIMIT", "candidates", "lineage", "message", "record"]

LIMIT = 2048
"""Bytes: a kubelet keeps 4 KiB of one container and 12 KiB of a pod, in equal parts, and six containers may be in ours."""
_HALF = 450
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\\\)?)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_REASON = 160
_MISSED = 240
"""Letters of why a candidate was not taken: a missed share of the teacher's figure has both models' figures in it."""


def record(revision: Mapping[str, Any], *, gated: bool) -> dict[str, Any]:
    """Return the parts of a ModelRevision that a build knows, of a revision as `entrypoints.local.state` has it."""
    return {
        "digest": revision["digest"],
        "index": revision.get("index"),
        "cascade": revision.get("cascade"),
        "middle": revision.get("middle"),
        "cut": revision.get("cut"),
        "precision": revision["precision"],
        "size": revision["size"],
        "reason": "GatePassed" if gated else "NoGate",
        "metrics": [{"name": name, "value": interval(name, figure)} for name, figure in list(revision["figures"].items())[:32]],
        "candidates": candidates(revision["candidates"]),
        "lineage": lineage(revision["lineage"]),
        "serve": to_record(revision["serve"]) or None,
    }


def lineage(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a build was made of, in a bounded size."""
    sources = [{**each, "uri": each["uri"][:_REASON]} for each in known["sources"][:16]]
    return {"sources": sources, "toolchain": [{**each, "value": each["value"][:_REASON]} for each in known["toolchain"][:32]]}


def candidates(report: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return every candidate of a gate, with the first limit that it missed, or why a search did not take it."""
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
                "reason": (missed or each.get("lost", ""))[:_MISSED],
            }
        )
    return found


def message(parts: Mapping[str, Any]) -> bytes:
    """Return the termination message. Where it would be too long, its record is packed, and the text loses its middle.

    What then does not fit goes, in this order: candidates' reasons, URIs, candidates, metrics, lineage, the rest of the text.
    """
    data = _clean(json.loads(json.dumps(parts)))
    content = _bytes(data)
    for shorten in (_unchanged, _middle, _reasons, _uris, _candidates, _metrics, _lineage, _text):
        if len(content) <= LIMIT:
            break
        shorten(data)
        content = _bytes(_packed(data))
    return content


def _clean(value: Any) -> Any:
    """Leave out what a terminal is told by, and what UTF-8 has no form for: JSON writes six characters for each."""
    if isinstance(value, str):
        text = _CONTROL.sub("", _ESCAPE.sub("", value.replace("\r\n", "\n").replace("\t", " ")))
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items()}
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


def _packed(data: Any) -> Any:
    if not data.get("record"):
        return data
    return {**{name: value for name, value in data.items() if name != "record"}, PACKED: pack(data["record"])}


def _bytes(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


def _unchanged(data: Any) -> None:
    """Packing alone may do."""


def _middle(data: Any) -> None:
    """Keep the beginning of the text, what is wrong, and its end, what mends it."""
    text = str(data.get("message", ""))
    if data.get("record") and len(text) > 2 * _HALF:
        data["message"] = f"{text[:_HALF]} … {text[-_HALF:]}"


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
    text = str(data.get("message", ""))
    room = max(0, LIMIT - len(_bytes(_packed({**data, "message": ""}))) - 16) // 4  # half at each end; JSON escapes quotes
    data["message"] = f"{_head(text, room)} … {_head(text[::-1], room)[::-1]}"


def _head(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")

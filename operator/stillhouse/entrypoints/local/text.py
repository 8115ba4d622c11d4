"""Figures for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillhouse.sizes import size

__all__ = ["condition", "cut", "duration", "interval", "size", "spread"]


def duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def condition(entry: Mapping[str, str]) -> str:
    """Return `Ready=False  GateFailed: why`, with the message's first line where the condition does not hold."""
    why = f": {entry['message'].splitlines()[0]}" if entry["status"] == "False" and entry.get("message") else ""
    return f"{entry['type']}={entry['status']}  {entry['reason']}{why}"


def cut(truncated: Mapping[str, int]) -> str:
    """Return `3 of 120 texts cut at 128 tokens, 210 tokens left out (2.5%)`, or that none was."""
    among = f"of {truncated['texts']:,} texts cut" + (f" at {truncated['max_length']} tokens" if truncated["max_length"] else "")
    if not truncated["cut"]:
        return f"none {among}"
    share = truncated["left_out"] / (truncated["left_out"] + truncated["tokens"])
    return f"{truncated['cut']:,} {among}, {truncated['left_out']:,} tokens left out ({share:.1%})"


def interval(name: str, figure: Mapping[str, Any]) -> str:
    """Return an estimate as `spread` does; of a share of the teacher's figure also both figures, where the report has them."""
    both = [f"{who} {spread(name, figure[who], digits=3)}" for who in ("student", "teacher") if figure.get(who)]
    return spread(name, figure) + (f" ({', '.join(both)})" if both else "")


def spread(name: str, figure: Mapping[str, Any], digits: int = 4) -> str:
    """Return an estimate with its 95 % interval in the figure's own unit; an end that could not be bounded is a `?`, with why."""
    scale, form, unit = (1000, ".2f", " ms") if name.startswith("latency") else (1, f".{digits}f", "")
    if name == "throughput":
        scale, form, unit = 1, ".0f", "/s"
    estimate, low, high = (
        "?" if value is None else format(value * scale, form) for value in (figure["estimate"], figure["low"], figure["high"])
    )
    why = " (?: too few to tell)" if "?" in (low, high) else ""
    return f"{estimate}{unit} [{low}, {high}]{why}"

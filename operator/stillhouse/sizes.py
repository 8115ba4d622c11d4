"""Sizes for people: one way to write them, in errors as in tables."""

from __future__ import annotations

__all__ = ["size"]


def size(count: float) -> str:
    """Return `512 B`, `12.3 KiB`, `6.9 MiB`, `1.2 GiB`."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(value, 1) < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")

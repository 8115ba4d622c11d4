"""Quantities in the form in which the API server gives them back: what we want can then be compared with what is there."""

from __future__ import annotations

__all__ = ["cpu", "memory"]

_BINARY = (("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10))
_DECIMAL = (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3))


def cpu(cores: float) -> str:
    """Return CPUs: whole ones plain, else in thousandths."""
    thousandths = round(cores * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def memory(size: int) -> str:
    """Return bytes with the largest binary unit that divides them, else the largest decimal one."""
    for unit, factor in (*_BINARY, *_DECIMAL):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)

"""What a doctor finds, as plain data."""

from __future__ import annotations

from typing import Any

__all__ = ["Finding", "finding"]

Finding = dict[str, Any]


def finding(state: str, title: str, detail: str, fix: str = "") -> Finding:
    """Return a finding. `state` is ok, warning or failed."""
    return {"state": state, "title": title, "detail": detail, "fix": fix}

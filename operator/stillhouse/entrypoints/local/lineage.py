"""What a build was made of, from its plan and its receipts: nothing is hashed for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stillhouse.clients.store.receipts import Receipt
from stillhouse.planning.plan import Plan, Step

__all__ = ["lineage"]


def lineage(plan: Plan, receipt_of: Callable[[Step], Receipt | None]) -> dict[str, Any]:
    """Return every source with its digest, and the toolchain of every step that has run.

    `sources`: teacher, data, calibration and the others that the plan reads: `name`, `uri`, and the `digest` of the bytes that
    are used. `toolchain`: packages (`name`) with their version (`value`), two where an older step was found again.
    """
    versions: dict[str, set[str]] = {}
    for step in plan.steps:
        receipt = receipt_of(step)
        for package, version in (receipt.toolchain if receipt else {}).items():
            versions.setdefault(package, set()).add(version)
    return {
        "sources": [{"name": each.title, "uri": each.uri, "digest": each.config["digest"]} for each in plan.steps if each.uri],
        "toolchain": [{"name": name, "value": ", ".join(sorted(found))} for name, found in sorted(versions.items())],
    }

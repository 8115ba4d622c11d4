"""Measurements that an interrupted gate had finished: the next attempt of the same step goes on from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillhouse.passes.evaluate.candidate import Candidate, Measured
from stillhouse.passes.evaluate.intervals import Interval, Share
from stillhouse.passes.evaluate.rows import Truncation
from stillhouse.passes.evaluate.verdict import Check

__all__ = ["keep", "kept"]


def keep(folder: Path, found: Measured) -> None:
    """Write what was measured, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{found.precision}.part"
    part.write_text(json.dumps(asdict(found)), encoding="utf-8")  # NaN and infinity are Python's own to read
    part.replace(folder / f"{found.precision}.json")


def kept(folder: Path, candidate: Candidate) -> Measured | None:
    """Return what was measured of a candidate; None where nothing was, of another artifact, or it cannot be read."""
    try:
        data = json.loads((folder / f"{candidate.precision}.json").read_text(encoding="utf-8"))
        found = Measured(
            precision=data["precision"],
            digest=data["digest"],
            size=data["size"],
            figures={name: _interval(each) for name, each in data["figures"].items()},
            checks=[Check(**{**each, "interval": _interval(each["interval"])}) for each in data["checks"]],
            repeats=data["repeats"],
            truncated=Truncation(**data["truncated"]) if data["truncated"] else None,
            server=data["server"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return found if found.digest == candidate.artifact.digest else None


def _interval(data: dict[str, Any]) -> Interval:
    if "student" not in data:
        return Interval(**data)
    return Share(**{**data, **{who: Interval(**data[who]) for who in ("student", "teacher")}})

"""The result file and the table of a benchmark."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from bench.harness.machine import machine
from bench.harness.paths import RESULTS
from bench.harness.rounds import Spread

SCHEMA = 1


class Shown(Protocol):
    """A run as the result file shows it. `kept`: it stands for its round; `quiet`: other processes stayed under the limit."""

    @property
    def kept(self) -> bool: ...

    @property
    def quiet(self) -> bool: ...

    def to_json(self) -> dict[str, object]:
        """For the result file."""


def write_results(
    name: str,
    *,
    settings: Mapping[str, object],
    runs: Sequence[Shown],
    ratios: Mapping[str, Spread],
    notes: Sequence[str] = (),
    folder: Path = RESULTS,
) -> Path:
    """Write `folder/NAME.json`: machine, command, settings, every run, and the flat map `ratios` of medians.

    `ratio_ranges` holds, under the same names, the lowest and highest value over the rounds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    result = {
        "schema": SCHEMA,
        "name": name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python " + shlex.join(["-m", f"bench.{name}", *sys.argv[1:]]),
        "machine": machine(),
        "settings": dict(settings),
        "notes": list(notes),
        "ratios": {key: round(spread.median, 4) for key, spread in ratios.items()},
        "ratio_ranges": {key: [round(spread.low, 4), round(spread.high, 4)] for key, spread in ratios.items()},
        "noisy_rounds": sum(1 for run in runs if run.kept and not run.quiet),
        "runs": [run.to_json() for run in runs],
    }
    aside = path.with_suffix(".json.tmp")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
    return path


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])

    return "\n".join([line(header), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def cells(ratios: Mapping[str, Spread], kinds: Sequence[str], name: str) -> list[str]:
    """Quote the ratios `KIND:NAME` of one row, "" for each that was not measured."""
    return [quoted(ratios[f"{kind}:{name}"], 3) if f"{kind}:{name}" in ratios else "" for kind in kinds]


def quoted(spread: Spread, digits: int = 1) -> str:
    """`median (low to high)`."""
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}–{spread.high:.{digits}f})"

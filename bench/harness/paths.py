"""Where the repository's parts and the benchmarks' caches lie."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"


def cache_folder() -> Path:
    """`${XDG_CACHE_HOME:-~/.cache}/stillhouse/bench`, created."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "stillhouse" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

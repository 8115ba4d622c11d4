"""How a benchmark's command ends where it cannot be carried out: by a line on standard error, not by a traceback."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from bench.harness.errors import BenchError
from stillhouse.errors import StillhouseError

__all__ = ["reported"]


def reported(name: str, measure: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Measure; returns the exit code, 1 where our own side of it cannot be made. `name`: what the benchmark is called."""
    try:
        return measure(options)
    except (BenchError, StillhouseError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1

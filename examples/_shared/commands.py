"""Command lines of the small examples: where the data is written, and where what is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _shared.dataset import report
from _shared.progress import Progress

__all__ = ["build_data", "teacher_options"]

Build = Callable[[Path, Progress], Mapping[str, Any] | None]
"""Writes the data set into a folder and gives its manifest, `None` where it is there already."""


def build_data(about: str | None, example: Path, build: Build, arguments: Sequence[str] | None) -> None:
    """Build the data of the example in folder `example`, and tell of it; `about`: the script's docstring."""
    parser = _parser(about)
    parser.add_argument("--out", type=Path, default=example / "data", metavar="DIR")
    options = parser.parse_args(arguments)
    with Progress() as progress:
        manifest = build(options.out, progress)
    report(options.out, manifest)


def teacher_options(about: str | None, example: Path, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Give `data` and `out` of a script that makes a teacher; without data it ends, and says what builds them."""
    parser = _parser(about)
    parser.add_argument("--data", type=Path, default=example / "data", metavar="DIR", help="what build_data.py wrote")
    parser.add_argument("--out", type=Path, default=example / "teacher", metavar="DIR")
    options = parser.parse_args(arguments)
    if not (options.data / "train.parquet").is_file():
        parser.error(f"{options.data / 'train.parquet'} is not there; run: python examples/{example.name}/build_data.py")
    return options


def _parser(about: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=(about or "").split("\n\n")[0])

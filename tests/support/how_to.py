"""Puts what a how-to page shows into a checkout: `python -m tests.support.how_to PAGE FOLDER`.

A block belongs to the file whose path begins the line before it. A block `diff` changes a file: parts are told apart by `@@`, the
lines that stay and those that go must be in it once, together. Another language is a whole new file. Other blocks are commands.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "PageStale", "apply", "blocks"]

_BLOCK = re.compile(r"^`(?P<path>[\w./-]+/[\w.-]+)`[^\n]*:\n```(?P<form>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


class PageStale(Exception):
    """What a page changes is no longer there, or what it adds already is."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block: the file that it is about, relative to the project, and what it says."""

    path: str
    form: str
    text: str


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks that change files, in order."""
    found = _BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [Block(each["path"], each["form"], each["text"]) for each in found]


def apply(page: Path, root: Path) -> list[Path]:
    """Put all of a page into the project at `root`; return the files that are new.

    Raises:
        PageStale: with the page, the file and the lines that are not there.
    """
    new = []
    for block in blocks(page):
        path = root / block.path
        if block.form != "diff":
            if path.exists():
                raise PageStale(f"{page.name}: {block.path} is there already")
            path.write_text(block.text, encoding="utf-8")
            new.append(path)
            continue
        text = path.read_text(encoding="utf-8")
        for part in re.split(r"^@@.*\n", block.text, flags=re.MULTILINE):
            lines = part.splitlines(keepends=True)
            before = "".join(line[1:] for line in lines if line[0] != "+")
            after = "".join(line[1:] for line in lines if line[0] != "-")
            many = f"\n{text}".count(f"\n{before}")
            if many != 1:
                raise PageStale(f"{page.name}: these lines stand {many} times in {block.path}; mend the page:\n{before}")
            text = f"\n{text}".replace(f"\n{before}", f"\n{after}")[1:]
        path.write_text(text, encoding="utf-8")
    return new


if __name__ == "__main__":
    for made in apply(Path(sys.argv[1]), Path(sys.argv[2])):
        sys.stdout.write(f"{made}\n")

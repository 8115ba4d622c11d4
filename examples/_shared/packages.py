"""Which source files there are: the standard library's and the installed packages'."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .docstrings import SourceFile

__all__ = ["installed_files", "installed_versions", "python_version", "standard_library_files"]

_SKIPPED = frozenset({"test", "tests", "idle_test", "__pycache__", "site-packages", "_vendor", "vendor", "node_modules"})
# Fixtures, pydoc's copy of the language reference and IDLE's menus: text, but about no function that one would search.
_NO_LIBRARY = frozenset({"idlelib", "lib2to3", "pydoc_data", "turtledemo", "ensurepip", "antigravity", "this"})
_OWN = "stillhouse"


def _module_name(relative: PurePosixPath) -> str:
    parts = list(relative.with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def standard_library_files(root: Path | None = None) -> list[SourceFile]:
    """List the standard library's own modules, without tests, sorted.

    Args:
        root: the folder of the library; this interpreter's by default.
    """
    root = root if root is not None else Path(sysconfig.get_path("stdlib"))
    files = []
    for path in root.rglob("*.py"):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        top = relative.with_suffix("").parts[0]
        importable = all(part.isidentifier() for part in relative.with_suffix("").parts)
        if importable and top not in _NO_LIBRARY and not _SKIPPED.intersection(relative.parts):
            files.append(SourceFile(_module_name(relative), top, path))
    return sorted(files)


def _distributions() -> Iterable[importlib.metadata.Distribution]:
    """List what is installed for this interpreter, the project itself left out (it grows daily, and it is no library)."""
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions(path=[sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]):
        name = _canonical(distribution.metadata["Name"])
        if name != _OWN and name not in seen:
            seen.add(name)
            yield distribution


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def installed_versions() -> dict[str, str]:
    """Name → version of every installed package, sorted: with Python's version, the identity of the input."""
    return dict(sorted((_canonical(found.metadata["Name"]), found.version) for found in _distributions()))


def installed_files() -> list[SourceFile]:
    """List the installed packages' modules by their RECORD, without tests and vendored copies, sorted."""
    files = []
    for distribution in _distributions():
        package = _canonical(distribution.metadata["Name"])
        for file in distribution.files or ():
            parts = PurePosixPath(file.as_posix()).with_suffix("").parts
            if file.suffix != ".py" or parts[0] == ".." or _SKIPPED.intersection(parts):
                continue
            path = Path(str(distribution.locate_file(file)))
            if all(part.isidentifier() for part in parts) and path.is_file():
                files.append(SourceFile(_module_name(PurePosixPath(file.as_posix())), package, path))
    return sorted(files)


def python_version() -> str:
    """Name the interpreter's version: the standard library's texts differ between versions."""
    return ".".join(map(str, sys.version_info[:3]))

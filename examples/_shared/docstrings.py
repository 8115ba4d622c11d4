"""Docstrings by AST, from files that are only read.

`vars(module)` would give mostly the same `int.__doc__` (every constant carries its type's text) and would have to import
what it reads; the syntax tree gives each text once, under the name of what it documents.
"""

from __future__ import annotations

import ast
import gc
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .progress import Progress

__all__ = ["Docstring", "SourceFile", "extract", "extract_all"]

_CHUNK = 200  # files a worker takes at once: about a second of parsing, so progress moves


@dataclass(frozen=True, order=True)
class SourceFile:
    """A Python file, the dotted name of its module and the package (distribution or top-level module) that it belongs to."""

    module: str
    package: str
    path: Path


@dataclass(frozen=True, order=True)
class Docstring:
    """One docstring.

    Attributes:
        name: qualified name, such as `pathlib.Path.cwd`.
        package: the distribution, or for the standard library the top-level module.
        kind: `module`, `class` or `function`.
        text: the text, dedented, with its line ends.
    """

    name: str
    package: str
    kind: str
    text: str


def extract(file: SourceFile) -> list[Docstring]:
    """All docstrings of one file, in the order of the source; none from a file that this Python cannot parse."""
    source = file.path.read_bytes()
    if b'"""' not in source and b"'''" not in source:  # most generated files: not worth a parse
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
    return list(_walk(tree, file.module, file.package))


def _walk(node: ast.AST, name: str, package: str) -> Iterator[Docstring]:
    """Docstrings below `node`; only statements are visited, which is most of the speed."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = ast.get_docstring(node)
        if text:
            kind = {ast.Module: "module", ast.ClassDef: "class"}.get(type(node), "function")
            yield Docstring(name, package, kind, text)
    for field in ("body", "orelse", "handlers", "finalbody"):
        for child in getattr(node, field, ()) or ():
            if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _walk(child, f"{name}.{child.name}", package)
            elif isinstance(child, (ast.If, ast.Try, ast.With, ast.ExceptHandler, ast.For, ast.While)):
                yield from _walk(child, name, package)


def _extract_chunk(files: Sequence[SourceFile]) -> list[Docstring]:
    gc.disable()  # syntax trees are many small objects that live briefly; without the collector parsing is twice as fast
    return [docstring for file in files for docstring in extract(file)]


def extract_all(files: Sequence[SourceFile], progress: Progress, processes: int = 2) -> list[Docstring]:
    """Collect the docstrings of many files, sorted by name, so that neither the file system nor the processes decide the order.

    Args:
        files: what to read.
        progress: gets a line every two seconds.
        processes: parsing processes; 1 parses in this one.
    """
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    found: list[Docstring] = []
    if processes == 1 or len(chunks) < 2:
        for chunk in progress.over(map(_extract_chunk, chunks), len(chunks), "parsed parts"):
            found.extend(chunk)
        gc.enable()
    else:
        with ProcessPoolExecutor(processes) as pool:
            for chunk in progress.over(pool.map(_extract_chunk, chunks), len(chunks), "parsed parts"):
                found.extend(chunk)
    return sorted(set(found))

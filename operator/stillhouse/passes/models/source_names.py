"""Which names a Python file binds at its top, told from its text: importing a user's module may take seconds, or import torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["bound_names"]

_DYNAMIC = {"exec", "globals", "setattr", "vars"}


def bound_names(source: bytes) -> dict[str, bool] | None:
    """Return name → whether it is a function or class written there; None where only running the file would tell.

    Raises:
        SyntaxError, ValueError, RecursionError: it is no Python.
    """
    tree = ast.parse(source)
    names: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in _DYNAMIC:
            return None
        if isinstance(node, ast.Global):
            names.update(dict.fromkeys(node.names, False))
    for node in _at_the_top(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                names.setdefault(alias.asname or alias.name.partition(".")[0], False)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, False)
    return None if {"*", "__getattr__"} & names.keys() else names


def _at_the_top(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is below a node, but for what functions and classes hold: it binds no name of the module."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _at_the_top(child)

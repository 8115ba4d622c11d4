"""Public functions and classes of the standard library that are written in C: no source, so no syntax tree.

They are wanted for the index only ("which function does this?" should find `os.getcwd` and `math.hypot`), never for
training or scoring. Only functions, methods and classes are asked, never values, whose `__doc__` is their type's.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from .docstrings import Docstring

__all__ = ["compiled_docstrings"]

_PUBLIC_NAME = {"posix": "os", "nt": "os"}  # what a reader imports instead
_SUFFIXES = tuple(importlib.machinery.EXTENSION_SUFFIXES)


def _modules() -> list[str]:
    """Built-in and extension modules of this interpreter that a user imports under this name or without its underscore."""
    library = Path(sysconfig.get_path("platstdlib")) / "lib-dynload"
    extensions = {path.name.split(".")[0] for path in library.glob("*") if path.name.endswith(_SUFFIXES)}
    names = extensions | set(sys.builtin_module_names)
    return sorted(name for name in names if _public(name) in sys.stdlib_module_names and "test" not in name)


def _public(module: str) -> str:
    return _PUBLIC_NAME.get(module, module.lstrip("_"))


def compiled_docstrings() -> list[Docstring]:
    """Collect the docstrings of all compiled public functions, classes and methods, sorted, under the names a user writes."""
    found: dict[str, Docstring] = {}
    for name in _modules():
        try:
            module = importlib.import_module(name)
        except ImportError:  # an extension whose library is missing on this machine
            continue
        for docstring in _of_module(module, _public(name)):
            found.setdefault(docstring.name, docstring)
    return sorted(found.values())


def _of_module(module: ModuleType, public: str) -> Iterator[Docstring]:
    prefix = "" if public == "builtins" else f"{public}."
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isbuiltin(value)):
            continue
        if _public(str(getattr(value, "__module__", None) or "")) != public:
            continue  # a re-export: it stands where it comes from
        yield from _of_object(value, f"{prefix}{name}", public)


def _of_object(value: Any, name: str, package: str) -> Iterator[Docstring]:
    text = value.__doc__ if isinstance(value.__doc__, str) else ""
    if text:
        yield Docstring(name, package, "class" if inspect.isclass(value) else "function", inspect.cleandoc(text))
    if inspect.isclass(value):
        for member, part in sorted(vars(value).items()):
            if not member.startswith("_") and (inspect.ismethoddescriptor(part) or isinstance(part, classmethod)):
                yield from _of_object(part, f"{name}.{member}", package)

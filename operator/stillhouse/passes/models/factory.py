"""Python factories: finding the user's function, and the digest of the file that it lies in. No torch.

Where to look is a setting of the process and never part of an artifact or a key: `STILLHOUSE_FACTORY_PATH` holds folders
(separated as in PATH), the command line puts the folder of the user's file there, an image of the cluster its own.
What *is* part of the key is the digest of the source file.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

from stillhouse.digests import file_digest, hash_file
from stillhouse.errors import SourceError
from stillhouse.passes.models.architecture import FactoryCall
from stillhouse.passes.models.source_names import bound_names

__all__ = ["FACTORY_PATH_VARIABLE", "call", "check_function", "search_folders", "source_digest"]

FACTORY_PATH_VARIABLE: Final = "STILLHOUSE_FACTORY_PATH"


def search_folders() -> tuple[Path, ...]:
    """Return the folders in which factories may lie, from the environment."""
    return tuple(Path(part) for part in os.environ.get(FACTORY_PATH_VARIABLE, "").split(os.pathsep) if part)


def source_digest(target: str, folders: Sequence[Path] | None = None, field: str = "source.factory") -> str:
    """Return `sha256:…` over the source file of `module:function`, found in `folders` or installed.

    `field` is where the factory stands in the resource, for errors.

    Raises:
        SourceError: there is no such module, or it has no source file.
    """
    path = _source(target.partition(":")[0], search_folders() if folders is None else folders, field)
    return file_digest(path)


def check_function(target: str, folders: Sequence[Path] | None = None, field: str = "source.factory") -> None:
    """Refuse `module:function` whose source file binds no such name. Runs none of its code, nor imports what it imports.

    Raises:
        SourceError: there is no such module or function, or the file is no Python.
    """
    module, _, function = target.partition(":")
    path = _source(module, search_folders() if folders is None else folders, field)
    if path.suffix != ".py":
        return
    try:
        bound = bound_names(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError) as error:
        raise _not_importable(path, error, field) from error
    if bound is not None and function not in bound:
        raise _no_function(target, [name for name, callable_ in bound.items() if callable_], field)


def call(factory: FactoryCall, folders: Sequence[Path] | None = None, field: str = "source.factory") -> Any:
    """Call the factory and return what it returns (a `torch.nn.Module`; the caller checks).

    `field` is where the factory stands in the resource, for errors.

    Raises:
        SourceError: the module or the function is not there, its source is another than the one recorded, or it fails.
    """
    places = tuple(search_folders() if folders is None else folders)
    if factory.digest is not None:
        found = source_digest(factory.target, places, field)
        if found != factory.digest:
            raise SourceError(
                "the factory's source file is not the one that this step was planned with",
                field=f"{field}.target",
                found=f"{factory.target}: {found}",
                allowed=factory.digest,
                fix="put the former file back, or plan again: still build FILE",
            )
    module_name, _, function_name = factory.target.partition(":")
    module = _load(module_name, places, field)
    function = getattr(module, function_name, None)
    if not callable(function):
        own = module.__name__
        mine = [name for name, value in vars(module).items() if callable(value) and getattr(value, "__module__", "") == own]
        raise _no_function(factory.target, mine, field)
    try:
        return cast("Callable[..., Any]", function)(**factory.arguments)
    except (Exception, SystemExit) as error:  # sys.exit(0) would end the build as if all of it were done
        ended = isinstance(error, SystemExit)
        raise SourceError(
            f"the factory {'ended the process' if ended else 'failed'}: {type(error).__name__}",
            field=field,
            found=f"{factory.target}: {error}" if str(error) else f"{factory.target}: {error!r}",
            allowed="a function that returns a torch.nn.Module when it is called with the arguments given here",
            fix=f"mend {factory.target}, or {field}.arguments: {_shown(factory)}",
        ) from error


def _no_function(target: str, there: Sequence[str], field: str) -> SourceError:
    module, _, function = target.partition(":")
    names = sorted(there)
    near = difflib.get_close_matches(function, names, n=1)
    return SourceError(
        "the factory's module has no such function",
        field=f"{field}.target",
        found=target,
        allowed=f"module:function; in {module}: {', '.join(names[:8]) or 'no function'}",
        fix=f"write target: {module}:{(near or names or ['FUNCTION'])[0]}",
    )


def _not_importable(path: Path, error: Exception | SystemExit, field: str) -> SourceError:
    return SourceError(
        f"the factory's module cannot be imported: {type(error).__name__}",
        field=f"{field}.target",
        found=f"{path}: {error}",
        allowed="a module that can be imported here",
        fix=f"mend {path.name}, or install what it imports",
    )


def _shown(factory: FactoryCall) -> str:
    """Return the call's arguments as they can be written in the resource."""
    return "{" + ", ".join(f"{name}: {value}" for name, value in factory.arguments.items()) + "}"


def _source(module_name: str, folders: Sequence[Path], field: str) -> Path:
    relative = Path(*module_name.split("."))
    for folder in folders:
        for path in (folder / relative.with_suffix(".py"), folder / relative / "__init__.py"):
            if path.is_file():
                return path
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise SourceError(
            "the factory's module was not found",
            field=f"{field}.target",
            found=f"{module_name}, searched in " + (", ".join(map(str, folders)) or "installed packages only"),
            allowed="a module beside the file, or an installed one",
            fix=f"put {relative.with_suffix('.py')} beside the file, or set {FACTORY_PATH_VARIABLE}",
        )
    return Path(spec.origin)


def _load(module_name: str, folders: Sequence[Path], field: str) -> ModuleType:
    """Import the module; a file beside the user's file wins over an installed module of the same name."""
    path = _source(module_name, folders, field)
    beside = any(path.is_relative_to(folder) for folder in folders)
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # at the end: a user's `types.py` must not replace the standard library's
    try:
        if not beside or "." in module_name:
            return importlib.import_module(module_name)
        # Named by contents: two models with a `network.py` each must not get one another's.
        unique = f"_stillhouse_factory_{module_name}_{hash_file(path)[1][:12]}"
        if unique in sys.modules:
            return sys.modules[unique]
        spec = importlib.util.spec_from_file_location(unique, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"no loader for {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[unique]
            raise
        return module
    except (Exception, SystemExit) as error:
        raise _not_importable(path, error, field) from error

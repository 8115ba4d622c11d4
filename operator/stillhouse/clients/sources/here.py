"""Files of this machine that a URI names: in folders and in installed packages; and what to say where nothing is."""

from __future__ import annotations

import difflib
import errno
import importlib.util
from pathlib import Path
from urllib.parse import unquote

from stillhouse.clients.sources.packing import SUFFIX
from stillhouse.errors import SourceError

__all__ = ["in_package", "local", "missing", "path_of"]

_SCRIPT = ".py"
_MAKERS = ("build_data.py", "make_teacher.py")
"""Scripts that make what a resource beside them names; the examples have such."""


def path_of(text: str) -> Path:
    """Return the path that a URI writes with %XX for whatever it cannot hold, be it no UTF-8."""
    return Path(unquote(text, errors="surrogateescape"))


def local(text: str, base: Path, uri: str) -> Path:
    """Return the path of a `file://` URI's text, relative ones from `base`; `uri` is what the resource has.

    A file may be there compressed only, as a push leaves it (`packing`).

    Raises:
        SourceError: nothing is there.
    """
    try:
        path = base / path_of(text).expanduser()
    except RuntimeError as error:  # ~USER
        raise SourceError(
            "the home folder of this user is not known",
            field="uri",
            found=uri,
            allowed="~ for your own, or ~USER of a user of this machine",
            fix="write the whole path: file:///PATH",
        ) from error
    if not _exists(path) and not (path.name and _exists(path.with_name(path.name + SUFFIX))):
        raise missing(path, uri)
    return path.resolve()


def _exists(path: Path) -> bool:
    """Say whether something is there; under a name that is too long for any file there is nothing."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def in_package(text: str, uri: str) -> Path:
    """Return the path inside an installed package, which is found but not imported.

    Raises:
        SourceError: the package or the file is not there, or the path leaves the package.
    """
    name, _, inside = text.partition("/")
    if not name.replace(".", "").isidentifier():
        raise SourceError(
            "the URI names no package",
            field="uri",
            found=uri,
            allowed="package://IMPORT_NAME/PATH",
            fix="write the name as in an import statement",
        )
    spec = None
    try:
        # Only the outermost name: a dotted one would import its parents, which runs their code.
        spec = importlib.util.find_spec(name.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    if not folders:
        raise SourceError(
            "the package is not installed",
            field="uri",
            found=uri,
            allowed="an installed Python package",
            fix=f"pip install the package that brings {name}",
        )
    root = folders[0].joinpath(*name.split(".")[1:]).resolve()
    try:
        path = (root / path_of(inside)).resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle; a NUL
        raise missing(root / path_of(inside), uri) from error
    if not path.is_relative_to(root):
        raise SourceError("the path leaves the package", field="uri", found=uri, allowed="a path inside the package")
    if not _exists(path):
        raise missing(path, uri)
    return path


def missing(path: Path, uri: str) -> SourceError:
    """Say what is there instead: the nearest names in the deepest folder of the path that exists."""
    folder = path.parent
    wanted = path.name
    while not _is_folder(folder) and folder != folder.parent:
        wanted, folder = folder.name, folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        names = []
    kept = [name for name in names if not name.endswith(_SCRIPT) or wanted.endswith(_SCRIPT)]  # no model and no data is one
    near = difflib.get_close_matches(wanted, kept, n=3, cutoff=0.5)
    maker = _maker(folder, [name for name in names if name in _MAKERS], {wanted, path.name, path.stem})
    fix = "check the path; relative ones are taken from the resource's folder"
    if maker is not None:
        fix = f"run: python {maker}, which makes it"
    elif near:
        fix = f"did you mean {near[0]}?"
    elif uri.startswith("models:") and folder == path.parent.parent:
        fix += f"; a model of the Hugging Face hub is bound as hf://{path.parent.name}/{path.name}"
    return SourceError(
        "nothing is there",
        field="uri",
        found=f"{uri} ({path})"[:400],
        allowed=f"in {folder}: {', '.join(near or names[:8]) or 'nothing'}",
        fix=fix,
    )


def _maker(folder: Path, scripts: list[str], wanted: set[str]) -> Path | None:
    """Return the script of a folder that writes what is missing: one that has its name in quotes."""
    for name in scripts:
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if any(f"{quote}{each}{quote}" in text for each in wanted for quote in ('"', "'")):
            here, script = Path.cwd(), folder / name
            return script.relative_to(here) if script.is_relative_to(here) else script
    return None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look, or a name that is too long
        return False

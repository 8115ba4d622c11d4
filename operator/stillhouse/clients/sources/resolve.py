"""URI → digest and local path.

| scheme | means |
|---|---|
| `file:///abs/path`, `file://./rel`, `rel` | a file or folder; relative ones lie beside the resource's file |
| `package://import_name/path` | a file or folder inside an installed Python package, which is found but not imported |
| `hf://owner/model[@revision]` | a repository of the Hugging Face hub; the revision is pinned to its commit |
| `models:name`, `data:name` | a named source, bound per environment |
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from stillhouse.clients.sources.digest import DigestCache, digest_of
from stillhouse.errors import NotAvailable, SourceError

__all__ = ["LATER_SCHEMES", "Resolved", "resolve"]

LATER_SCHEMES = ("pvc", "s3", "gs", "oci", "https", "http")
NAMED = ("models", "data")


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a URI points to right now.

    `uri` is the URI with names bound and revisions pinned (it goes into receipts), `digest` `sha256:…` of the files that
    are used, `path` the local file or folder. `given` is the URI as the resource has it. `commit` is the hub's commit
    for `hf://`, else "".
    """

    uri: str
    digest: str
    path: Path
    given: str
    commit: str = ""

    def fetch(self) -> Path:
        """Return the local path.

        Raises:
            SourceError: it is gone since it was resolved.
        """
        if not self.path.exists():
            raise _missing(self.path, self.given)
        return self.path


def resolve(
    uri: str,
    *,
    base: Path,
    bindings: Mapping[str, str],
    cache: Path | None = None,
    report: Callable[[int, int], None] | None = None,
    fetching: Callable[[int, int], None] | None = None,
) -> Resolved:
    """Find what `uri` points to and hash it.

    `base` is the folder of the resource's file, `bindings` name (`models:minilm`) → URI, `cache` a folder for digests
    and downloads (None: digests are not remembered, downloads go to the hub's own cache), `report` is told bytes hashed
    and bytes in all, `fetching` the same of a download.

    Raises:
        SourceError: nothing is there, the name is not bound, or the hub cannot be asked.
        NotAvailable: the scheme comes with a later version.
    """
    bound = _bind(uri, bindings)
    scheme, path_part = _split(bound)
    commit = ""
    if scheme in ("", "file"):
        path = _local(path_part, base, uri)
        pinned = f"file://{path}"
    elif scheme == "package":
        path, pinned = _in_package(path_part, uri), bound
    elif scheme == "hf":
        from stillhouse.clients.sources.hub import fetch_repository

        path, commit, pinned = fetch_repository(path_part, cache / "hub" if cache is not None else None, uri, fetching)
    elif scheme in LATER_SCHEMES:
        raise NotAvailable(
            "this kind of source is not available in this version",
            field="uri",
            found=f"{scheme}://",
            allowed="file://, package://, hf://, models:NAME, data:NAME",
            fix="copy it to a local folder and write file://./FOLDER",
        )
    else:
        near = difflib.get_close_matches(scheme, ("file", "package", "hf", *NAMED, *LATER_SCHEMES), n=1)
        raise SourceError(
            "the URI's scheme is not known",
            field="uri",
            found=uri,
            allowed="file://, package://, hf://, models:NAME, data:NAME",
            fix=f"did you mean {near[0]}?" if near else "for a local folder write file://./FOLDER",
        )
    try:
        digest = digest_of(path, DigestCache(cache), report)
    except OSError as error:
        raise SourceError("the source cannot be read", field="uri", found=f"{uri}: {error}") from error
    return Resolved(pinned, digest, path, uri, commit)


def _bind(uri: str, bindings: Mapping[str, str]) -> str:
    kind, colon, name = uri.partition(":")
    if kind not in NAMED or not colon or name.startswith("//"):
        return uri
    if uri in bindings:
        bound = bindings[uri]
        if _split(bound)[0] in NAMED:
            raise SourceError(
                "a named source is bound to another name",
                field=uri,
                found=bound,
                allowed="a URI such as file://./FOLDER",
                fix=f'write "{uri}" = "file://…" in the configuration',
            )
        return bound
    known = sorted(key for key in bindings if key.startswith(f"{kind}:"))
    near = difflib.get_close_matches(uri, known, n=1)
    raise SourceError(
        "the named source is not bound to anything" + (f"; did you mean {near[0]}?" if near else ""),
        field="uri",
        found=uri,
        allowed=", ".join(known) or f"no {kind}: source is bound yet",
        fix=f'add to the configuration under sources:  "{uri}": "file://./PATH"',
    )


def _split(uri: str) -> tuple[str, str]:
    """Return (scheme, rest); a plain path has the scheme ""."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme.replace("+", "").replace("-", "").replace(".", "").isalnum():
        return scheme.lower(), rest
    kind, colon, name = uri.partition(":")
    if colon and kind in NAMED:
        return kind, name
    return "", uri


def _local(text: str, base: Path, uri: str) -> Path:
    path = Path(unquote(text)).expanduser() if not text.startswith("~") else Path(text).expanduser()
    path = path if path.is_absolute() else base / path
    if not path.exists():
        raise _missing(path, uri)
    return path.resolve()


def _in_package(text: str, uri: str) -> Path:
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
    path = (root / unquote(inside)).resolve()
    if not path.is_relative_to(root):
        raise SourceError("the path leaves the package", field="uri", found=uri, allowed="a path inside the package")
    if not path.exists():
        raise _missing(path, uri)
    return path


def _missing(path: Path, uri: str) -> SourceError:
    """Say what is there instead: the nearest names in the deepest folder of the path that exists."""
    folder = path.parent
    wanted = path.name
    while not folder.is_dir() and folder != folder.parent:
        wanted, folder = folder.name, folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        names = []
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    return SourceError(
        "nothing is there",
        field="uri",
        found=f"{uri} ({path})",
        allowed=f"in {folder}: {', '.join(near or names[:8]) or 'nothing'}",
        fix=f"did you mean {near[0]}?" if near else "check the path; relative ones are taken from the resource's folder",
    )

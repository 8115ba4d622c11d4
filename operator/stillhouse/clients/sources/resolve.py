"""URI → digest and local path.

| scheme | means |
|---|---|
| `file:///abs/path`, `file://./rel`, `rel` | a file or folder; relative ones lie beside the resource's file |
| `package://import_name/path` | a file or folder inside an installed Python package, which is found but not imported |
| `hf://owner/model[@revision]` | a repository of the Hugging Face hub; the revision is pinned to its commit |
| `s3://bucket/prefix`, `s3://bucket/key.parquet` | a folder or a file of a store that speaks S3 |
| `oci://registry/repository[:tag]` | a folder as an OCI artifact; the tag is pinned to a digest |
| `https://host/file.parquet`, `https://host/folder/` | a file, or a folder with `SHA256SUMS` |
| `pvc://claim/path` | in a cluster: a file or folder on a PersistentVolumeClaim of the model's namespace |
| `models:name`, `data:name` | a named source, bound per environment |
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from stillhouse.clients.sources.access import refuse_odd_name, unreadable
from stillhouse.clients.sources.digest import DigestCache, digest_of
from stillhouse.clients.sources.remote.access import SCHEMES, Access, fetch_remote, of_user
from stillhouse.errors import NotAvailable, SourceError
from stillhouse.settings import load_settings

__all__ = ["LATER_SCHEMES", "Resolved", "absolute", "pushed_folder", "resolve"]

_ALLOWED = "file://, package://, hf://, s3://, oci://, https://, models:NAME, data:NAME"
_ALLOWED_DATA = "file://, package://, s3://, oci://, https://, data:NAME"
LATER_SCHEMES = ("gs",)
_PUSHED = "sha256-"
NAMED = ("models", "data")
_SCRIPT = ".py"
_MAKERS = ("build_data.py", "make_teacher.py")
"""Scripts that make what a resource beside them names; the examples have such."""


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
            SourceError: it is gone since it was resolved, or may no longer be read.
        """
        try:
            there = self.path.exists()
        except OSError as error:
            raise unreadable(error, self.given, "uri") from error
        if not there:
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
    data: bool = False,
    access: Access | None = None,
) -> Resolved:
    """Find what `uri` points to and hash it.

    `base` is the folder of the resource's file, `bindings` name (`models:minilm`) → URI, `cache` a folder for digests
    and downloads (None: digests are not remembered, downloads go to the hub's own cache), `report` is told bytes hashed
    and bytes in all, `fetching` the same of a download. `data`: rows are wanted, which the hub's models are not. `access`: with
    whose rights it is fetched (None: those of this machine's user).

    Raises:
        SourceError: nothing is there, it cannot be read, the name is not bound, or it is not what its name promises.
        UnsafeSource, EnvironmentProblem: it may not be asked for, or does not come.
        NotAvailable: the scheme comes with a later version.
    """
    bound = _bind(uri, bindings)
    try:
        if data:
            _refuse_hub(bound, uri)
        path, commit, pinned = _find(bound, uri, base, cache, fetching, data, access or of_user())
        refuse_odd_name(pinned)
        digest = digest_of(path, DigestCache(cache), report)
    except BrokenPipeError:
        raise  # no file gives it: whoever was told of the progress has gone
    except OSError as error:
        raise unreadable(error, uri, "uri") from error
    _refuse_other(path, bound, uri, digest)
    return Resolved(pinned, digest, path, uri, commit)


def _find(
    bound: str,
    uri: str,
    base: Path,
    cache: Path | None,
    fetching: Callable[[int, int], None] | None,
    data: bool,
    access: Access,
) -> tuple[Path, str, str]:
    """Return path, commit and pinned URI of what `bound` points to, which the resource calls `uri`."""
    scheme, path_part = _split(bound)
    if scheme in ("", "file"):
        path = _local(path_part, base, uri)
        return path, "", f"file://{path}"
    if scheme == "package":
        return _in_package(path_part, uri), "", bound
    if scheme == "hf":
        from stillhouse.clients.sources.hub import fetch_repository

        given = access.credential(bound)
        token = None if access.own else given.need("token")[0] if given else False
        place = cache / "hub" if cache is not None else None
        return fetch_repository(path_part, place, uri, fetching, token=token, limit=access.rules.max_bytes)
    if scheme in SCHEMES:
        path, pinned = fetch_remote(bound, access, cache or load_settings().cache, uri, fetching)
        return path, "", pinned
    allowed = _ALLOWED_DATA if data else _ALLOWED
    if scheme == "pvc":
        raise NotAvailable(
            "a claim is a volume of a cluster: here nothing is mounted",
            field="uri",
            found=uri if uri == bound else f"{uri}: {bound}",
            allowed=allowed,
            fix="name the source (data:NAME) and bind it here to a local folder; still push binds it to the claim in the cluster",
        )
    if scheme in LATER_SCHEMES:
        raise NotAvailable(
            "this kind of source is not available in this version",
            field="uri",
            found=f"{scheme}://",
            allowed=allowed,
            fix="such a bucket speaks S3 too: s3://BUCKET, AWS_ENDPOINT_URL=https://storage.googleapis.com, an HMAC key",
        )
    near = difflib.get_close_matches(scheme, ("file", "package", "hf", "pvc", *NAMED, *SCHEMES, *LATER_SCHEMES), n=1)
    raise SourceError(
        "the URI's scheme is not known",
        field="uri",
        found=uri,
        allowed=allowed,
        fix=f"did you mean {near[0]}?" if near else "for a local folder write file://./FOLDER",
    )


def pushed_folder(digest: str) -> str:
    """Return the name of the folder that `still push` puts a source into: its digest, which whoever reads it is then held to."""
    return _PUSHED + digest.removeprefix("sha256:")


def _refuse_other(path: Path, bound: str, uri: str, digest: str) -> None:
    """Refuse a folder that is named after a digest which it has not: somebody changed what was pushed, or the push broke off."""
    place = _split(bound)[1].partition("#")[0].partition("?")[0].rstrip("/").split("/")
    name = place[-1] if path.is_dir() else place[-2] if len(place) > 1 else ""
    if re.fullmatch(_PUSHED + "[0-9a-f]{64}", name) and name != pushed_folder(digest):
        raise SourceError(
            "this is not what was pushed: its contents have another digest than its folder's name",
            field="uri",
            found=f"{bound}: {digest}",
            allowed=name.replace("-", ":", 1),
            fix="still push FILE --to … again: it mends what differs",
        )


def _refuse_hub(bound: str, uri: str) -> None:
    if _split(bound)[0] == "hf":
        raise SourceError(
            "data is not taken from the hub",
            field="uri",
            found=uri if bound == uri else f"{uri}: {bound}",
            allowed=_ALLOWED_DATA,
            fix="download the rows (.parquet, .jsonl or .csv) and write file://./FILE",
        )


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
                fix=f'write "{uri}": "file://./PATH" under sources: in stillhouse.yaml',
            )
        return bound
    known = sorted(key for key in bindings if key.startswith(f"{kind}:"))
    near = difflib.get_close_matches(uri, known, n=1)
    raise SourceError(
        "the named source is not bound to anything" + (f"; did you mean {near[0]}?" if near else ""),
        field="uri",
        found=uri,
        allowed=", ".join(known) or f"no {kind}: source is bound yet",
        fix=f"write the file stillhouse.yaml beside the resource (or ~/.config/stillhouse/stillhouse.yaml), with the line:"
        f' sources: {{"{uri}": "file://./PATH"}}; where there is one, add under its sources: "{uri}": "file://./PATH"',
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


def absolute(uri: str, base: Path) -> str:
    """Return a URI whose relative path, if it has one, starts from `base`; every other URI is returned as it is."""
    scheme, text = _split(uri)
    path = _path(text)
    if scheme not in ("", "file") or str(path).startswith("~"):
        return uri
    try:
        return "file://" + quote(bytes(base / path))
    except UnicodeEncodeError:  # no file has such a name, which will be told where it is used
        return uri


def _path(text: str) -> Path:
    """Return the path that a URI writes with %XX for whatever it cannot hold, be it no UTF-8."""
    return Path(unquote(text, errors="surrogateescape"))


def _local(text: str, base: Path, uri: str) -> Path:
    try:
        path = base / _path(text).expanduser()
    except RuntimeError as error:  # ~USER
        raise SourceError(
            "the home folder of this user is not known",
            field="uri",
            found=uri,
            allowed="~ for your own, or ~USER of a user of this machine",
            fix="write the whole path: file:///PATH",
        ) from error
    if not _exists(path):
        raise _missing(path, uri)
    return path.resolve()


def _exists(path: Path) -> bool:
    """Say whether something is there; under a name that is too long for any file there is nothing."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


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
    try:
        path = (root / _path(inside)).resolve()
    except (RuntimeError, ValueError) as error:  # links in a circle; a NUL
        raise _missing(root / _path(inside), uri) from error
    if not path.is_relative_to(root):
        raise SourceError("the path leaves the package", field="uri", found=uri, allowed="a path inside the package")
    if not _exists(path):
        raise _missing(path, uri)
    return path


def _missing(path: Path, uri: str) -> SourceError:
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

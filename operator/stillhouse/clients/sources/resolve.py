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
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from stillhouse.clients.sources.access import refuse_odd_name, unreadable
from stillhouse.clients.sources.digest import DigestCache, digest_of
from stillhouse.clients.sources.here import in_package, local, missing, path_of
from stillhouse.clients.sources.packing import unpacked
from stillhouse.clients.sources.remote.access import SCHEMES, Access, fetch_remote, of_user
from stillhouse.errors import NotAvailable, SourceError
from stillhouse.settings import load_settings

__all__ = ["LATER_SCHEMES", "Resolved", "absolute", "pushed_folder", "resolve"]

_ALLOWED = "file://, package://, hf://, s3://, oci://, https://, models:NAME, data:NAME"
_ALLOWED_DATA = "file://, package://, s3://, oci://, https://, data:NAME"
LATER_SCHEMES = ("gs",)
_PUSHED = "sha256-"
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
            SourceError: it is gone since it was resolved, or may no longer be read.
        """
        try:
            there = self.path.exists()
        except OSError as error:
            raise unreadable(error, self.given, "uri") from error
        if not there:
            raise missing(self.path, self.given)
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
        path = local(path_part, base, uri)
        plain = unpacked(path, cache or load_settings().cache, uri, access.rules.max_bytes, fetching)
        return plain, "", f"file://{path}"
    if scheme == "package":
        return in_package(path_part, uri), "", bound
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
    path = path_of(text)
    if scheme not in ("", "file") or str(path).startswith("~"):
        return uri
    try:
        return "file://" + quote(bytes(base / path))
    except UnicodeEncodeError:  # no file has such a name, which will be told where it is used
        return uri

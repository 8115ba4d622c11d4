"""`https://`: one file, or a folder that says what is in it.

- `https://HOST/PATH/FILE.parquet` (`.jsonl`, `.csv`, `.onnx`): that file. `#sha256=HEX` behind it pins it.
- `https://HOST/PATH/` (with the slash): the files that `SHA256SUMS` in it lists, as `sha256sum * > SHA256SUMS` writes it.
  `#sha256=HEX` pins that list, and with it every file.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote, urlsplit

from stillhouse.clients.sources.remote.credentials import Credential
from stillhouse.clients.sources.remote.download import Changed, Listing, RemoteFile, blocks_of, sha256_of
from stillhouse.clients.sources.remote.web import Answer, Web, refusal
from stillhouse.clients.sources.selection import is_used
from stillhouse.errors import SourceError, UnsafeSource

__all__ = ["SUMS", "list_https"]

SUMS = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_SINGLE = (".parquet", ".jsonl", ".csv", ".onnx")
_MAX_SUMS = 4 << 20


def list_https(web: Web, uri: str, credential: Credential | None = None) -> Listing:
    """Ask what a URI names.

    Raises:
        SourceError, UnsafeSource, EnvironmentProblem: it is no such URI, may not be asked, or its server does not give it.
    """
    url, _, fragment = uri.partition("#")
    pin = _pin(fragment, uri)
    secret = _secret(credential)
    path = urlsplit(url).path
    if ".." in unquote(path).split("/"):
        raise UnsafeSource("the path leads upwards", field="uri", found=uri, allowed="https://HOST/PATH", fix="write it plainly")
    if path.endswith("/"):
        return _folder(web, url, pin, secret, uri)
    name = unquote(path.rpartition("/")[2])
    if not name.endswith(_SINGLE):
        raise SourceError(
            "this is neither a file of a kind that is read nor a folder",
            field="uri",
            found=uri,
            allowed=f"a file {', '.join(_SINGLE)}; or a folder, with / at its end, that has {SUMS}",
            fix=f"for a model: put {SUMS} beside its files (sha256sum * > {SUMS}) and write the folder's URL with / at its end",
        )
    file = _file(web, url, secret, uri, pin)
    pinned = f"{url}#sha256={pin}" if pin else url
    return Listing(url, {name: file}, pinned, single=name)


def _pin(fragment: str, uri: str) -> str:
    if not fragment:
        return ""
    key, _, value = fragment.partition("=")
    if key != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise SourceError(
            "this pins nothing", field="uri", found=uri, allowed="#sha256= and 64 hex digits", fix="sha256sum FILE says them"
        )
    return value.lower()


def _secret(credential: Credential | None) -> dict[str, str]:
    if credential is None:
        return {}
    if credential.values.get("token"):
        return {"Authorization": f"Bearer {credential.values['token']}"}
    user, password = credential.need("username", "password")
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def _folder(web: Web, url: str, pin: str, secret: dict[str, str], uri: str) -> Listing:
    answer = web.send("GET", url + SUMS, secret=secret)
    if answer.status != 200:
        raise refusal(answer, url + SUMS, f"a folder needs {SUMS}")
    content = answer.read(_MAX_SUMS)
    found = sha256_of(content)
    if pin and found != pin:
        raise SourceError(
            f"{SUMS} is not the one that was pinned",
            field="uri",
            found=f"sha256:{found}",
            allowed=f"sha256:{pin}",
            fix=f"{url}#sha256={found}",
        )
    files = {}
    for line in content.decode("utf-8", "replace").splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            if line.strip() and not line.startswith("#"):
                raise SourceError(
                    f"a line of {SUMS} cannot be read", field="uri", found=line[:100], allowed="64 hex digits, two spaces, a name"
                )
            continue
        name = match[2].removeprefix("./")
        if name.startswith("/") or ".." in name.split("/"):
            raise UnsafeSource(
                "the name of a file leads out of its folder", field="uri", found=f"{uri}: {name}", allowed="FOLDER/FILE"
            )
        files[name] = match[1].lower()
    listed = {name: _file(web, url + quote(name), secret, uri, digest) for name, digest in files.items() if is_used(name)}
    return Listing(url, listed, f"{url}#sha256={found}")


def _file(web: Web, url: str, secret: dict[str, str], uri: str, sha256: str) -> RemoteFile:
    answer = web.send("HEAD", url, secret=secret)
    if answer.status in (403, 405, 501):  # some servers, and signed URLs, know GET alone
        answer.close()
        answer = web.send("GET", url, secret=secret)
    if answer.status != 200:
        raise refusal(answer, url)
    answer.close()
    length = answer.headers.get("content-length", "")
    if not length.isdecimal() or answer.headers.get("content-encoding", "identity") != "identity":
        raise SourceError(
            "the server does not say how large the file is, or packs it",
            field="uri",
            found=f"Content-Length {length or 'missing'}, Content-Encoding {answer.headers.get('content-encoding', 'none')}",
            allowed="a plain file with its length",
            fix="serve it as a static file",
        )
    version = _version(answer)
    return RemoteFile(int(length), version, _Opener(web, url, secret, version, uri), sha256)


class _Opener:
    """Opens a file from an offset, if it still is the version that was listed."""

    def __init__(self, web: Web, url: str, secret: dict[str, str], version: str, uri: str) -> None:
        self._web, self._url, self._secret, self._version, self._uri = web, url, secret, version, uri

    @contextlib.contextmanager
    def __call__(self, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        headers = {}
        if offset:
            headers = {"Range": f"bytes={offset}-"} | ({"If-Range": self._version} if self._version else {})
        answer = self._web.send("GET", self._url, headers, secret=self._secret)
        try:
            if answer.status not in (200, 206):
                raise refusal(answer, self._url)
            begins = _begins(answer, offset)
            if answer.status == 200 and self._version and _version(answer) not in (self._version, ""):
                raise Changed
            yield begins, blocks_of(answer.raw)
        finally:
            answer.close()


def _version(answer: Answer) -> str:
    etag = answer.headers.get("etag", "")
    return etag if etag and not etag.startswith("W/") else answer.headers.get("last-modified", "")


def _begins(answer: Answer, offset: int) -> int:
    if answer.status == 200:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("content-range", ""))
    if match is None or int(match[1]) != offset:
        raise Changed
    return offset

"""`--to oci://REGISTRY/REPOSITORY`: an artifact a source, a layer a file. A layer that the registry has is not sent again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from stillhouse.clients.sources.push.bundle import Bundle, Item, Pushed, Report
from stillhouse.clients.sources.remote.download import sha256_of
from stillhouse.clients.sources.remote.oci import FILE, MANIFEST, TITLE, Registry, parse_oci
from stillhouse.clients.sources.remote.web import Answer, Web, refusal
from stillhouse.digests import canonical_json
from stillhouse.errors import SourceError

__all__ = ["CHUNK", "OciTarget"]

CHUNK = 16 << 20
"""Bytes of one request. Who is interrupted begins a file anew: registries forget uploads, and few tell how far one is."""
_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_KIND = "application/vnd.stillhouse.source.v1"
_DIGEST = "io.stillhouse.source.digest"
_WELL = (200, 201, 202, 204)


class OciTarget:
    """A repository."""

    def __init__(self, web: Web, uri: str, *, chunk: int = CHUNK) -> None:
        uri = uri.rstrip("/")
        reference = parse_oci(uri)
        last = uri.removeprefix("oci://").rpartition("/")[2]
        if ":" in last or "@" in last:
            raise SourceError(
                "a repository belongs here: tags are made by the push",
                field="--to",
                found=uri,
                allowed="oci://REGISTRY/REPOSITORY",
            )
        self._uri, self._chunk = uri, chunk
        self._registry = Registry(web, reference, push=True)

    def push(self, bundle: Bundle, report: Report) -> Pushed:
        """Put a source into the repository."""
        done = sent = 0
        sent += self._blob(iter([_EMPTY]), len(_EMPTY), sha256_of(_EMPTY), lambda count: None)
        for item in bundle.files.values():

            def told(count: int, before: int = done) -> None:
                report(before + count, bundle.size)

            sent += self._blob(_read(item, self._chunk), item.size, item.sha256, told)
            done += item.size
            report(done, bundle.size)
        content = canonical_json(_manifest(bundle))
        tag = "stillhouse-" + bundle.digest.removeprefix("sha256:")[:32]  # what no tag names, a registry may collect
        answer = self._registry.send("PUT", f"/manifests/{tag}", {"Content-Type": MANIFEST}, content)
        self._need(answer, (201,), "the manifest")
        return Pushed(f"{self._uri}@sha256:{sha256_of(content)}", sent)

    def _blob(self, blocks: Iterator[bytes], size: int, sha256: str, told: Callable[[int], None]) -> int:
        digest = f"sha256:{sha256}"
        there = self._registry.send("HEAD", f"/blobs/{digest}")
        there.close()
        if there.status == 200:
            return 0
        if there.status != 404:
            raise refusal(there, self._uri)
        answer = self._registry.send("POST", "/blobs/uploads/", {"Content-Length": "0"}, b"")
        self._need(answer, _WELL, "an upload")
        place, done = self._place(answer), 0
        found = hashlib.sha256()
        for block in blocks:
            found.update(block)
            headers = {"Content-Type": "application/octet-stream", "Content-Range": f"{done}-{done + len(block) - 1}"}
            answer = self._registry.send("PATCH", place, headers, block)
            self._need(answer, _WELL, "a part of a file")
            place, done = self._place(answer), done + len(block)
            told(done)
        if found.hexdigest() != sha256 or done != size:
            raise SourceError(
                "the file was changed while it was sent",
                field=self._uri,
                found=found.hexdigest(),
                allowed=sha256,
                fix="run it again",
            )
        query = urlencode({"digest": digest})
        answer = self._registry.send(
            "PUT", f"{place}{'&' if urlsplit(place).query else '?'}{query}", {"Content-Length": "0"}, b""
        )
        self._need(answer, _WELL, "a file")
        return size

    def _place(self, answer: Answer) -> str:
        return urljoin(self._registry.base, answer.headers.get("location", ""))

    def _need(self, answer: Answer, well: tuple[int, ...], what: str) -> None:
        if answer.status in well:
            answer.read()
            return
        said = re.sub(r"\s+", " ", answer.read(1 << 16).decode("utf-8", "replace"))[:200]
        raise refusal(answer, self._uri, f"{what}: {said}")


def _manifest(bundle: Bundle) -> dict[str, Any]:
    empty = {"mediaType": _EMPTY_TYPE, "digest": f"sha256:{sha256_of(_EMPTY)}", "size": len(_EMPTY)}
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": _KIND,
        "config": empty,
        "layers": [
            {
                "mediaType": "application/octet-stream",
                "digest": f"sha256:{item.sha256}",
                "size": item.size,
                "annotations": {TITLE: name},
            }
            for name, item in bundle.files.items()
        ],
        "annotations": {_DIGEST: bundle.digest, **({FILE: bundle.single} if bundle.single else {})},
    }


def _read(item: Item, chunk: int) -> Iterator[bytes]:
    with item.path.open("rb") as stream:
        while block := stream.read(chunk):
            yield block

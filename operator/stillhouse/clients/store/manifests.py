"""What an object consists of: its manifest, and the digest over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import read_json
from stillhouse.digests import content_digest

__all__ = ["MANIFEST", "Manifest", "digest_of", "read_manifest"]

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The (path, SHA-256 in hex, plain bytes) of an object's files, and its kind."""

    kind: str
    files: tuple[tuple[str, str, int], ...]

    @property
    def size(self) -> int:
        """Return the plain bytes of all files."""
        return sum(size for _, _, size in self.files)


def digest_of(kind: str, files: list[list[Any]]) -> str:
    """Return `sha256:…` over the kind and the sorted `[path, sha256, size]` of every file."""
    return content_digest({"kind": kind, "files": files})


def read_manifest(folder: Path, digest: str) -> tuple[Manifest, str]:
    """Return the manifest in a folder and what is wrong with it ("": nothing). `digest`: the one that it must give."""
    data = read_json(folder / MANIFEST)
    if not isinstance(data, dict) or not isinstance(data.get("files"), list):
        return Manifest("", ()), f"{MANIFEST} is missing or not readable"
    try:
        found = Manifest(str(data.get("kind")), tuple((str(name), str(sha), int(size)) for name, sha, size in data["files"]))
    except (TypeError, ValueError):
        return Manifest("", ()), f"{MANIFEST} is not readable"
    if digest_of(found.kind, [list(entry) for entry in found.files]) != digest:
        return found, f"{MANIFEST} does not belong to this digest"
    return found, ""

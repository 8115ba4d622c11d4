"""Objects: directories named by the digest of their contents."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import disk_errors, fsync_dir, make_dirs, read_json, write_json
from stillhouse.digests import content_digest, hash_file
from stillhouse.errors import StoreError

__all__ = ["MANIFEST", "ObjectStore", "digest_of"]

MANIFEST = "manifest.json"


def digest_of(kind: str, files: list[list[Any]]) -> str:
    """Return `sha256:…` over the kind and the sorted `[path, sha256, size]` of every file."""
    return content_digest({"kind": kind, "files": files})


class ObjectStore:
    """Objects below one folder. `root` and `tmp` lie on the same file system."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root = root
        self.tmp = tmp
        self._verified: set[str] = set()

    def path(self, digest: str) -> Path:
        """Return where the object of this digest lies (or would lie)."""
        return self.root / digest.replace(":", "-")

    def new_dir(self) -> Path:
        """Return a fresh directory to fill, on the store's file system."""
        with disk_errors(self.tmp):
            make_dirs(self.tmp)
            return Path(tempfile.mkdtemp(dir=self.tmp, prefix="out-"))

    def put(self, folder: Path, kind: str, report: Callable[[int, int], None] | None = None) -> tuple[str, int]:
        """Move a filled directory into the store; return (digest, bytes). `folder` is gone afterwards.

        `report` is told bytes hashed and made durable, and bytes in all.

        Raises:
            StoreError: the disk is full, or a pass left something that is not a plain file.
        """
        with disk_errors(self.root):
            files: list[list[Any]] = []
            paths = sorted(folder.rglob("*"))
            track = _Track(report, sum(path.lstat().st_size for path in paths if not path.is_dir()))
            for path in paths:
                if path.is_symlink() or not (path.is_file() or path.is_dir()):
                    raise StoreError("an artifact holds plain files only", field=str(path.relative_to(folder)))
                if path == folder / MANIFEST:
                    raise StoreError(f"{MANIFEST} is the store's own file", field=MANIFEST)
                if path.is_file():
                    length, sha = hash_file(path, sync=True, report=track.reading)
                    track.ended(length)
                    files.append([path.relative_to(folder).as_posix(), sha, length])
            name = digest_of(kind, files)
            size = sum(int(entry[2]) for entry in files)
            write_json(folder / MANIFEST, {"digest": name, "kind": kind, "files": files}, tmp=self.tmp)
            for path in folder.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
                else:
                    fsync_dir(path)
            folder.chmod(0o755)  # made durable already, with the manifest's name
            make_dirs(self.root)
            self._place(folder, name)
            self._verified.add(name)
            return name, size

    def _place(self, folder: Path, digest: str) -> None:
        """Rename a complete directory to its name. A whole object that is there stays, a damaged one makes room."""
        target = self.path(digest)
        while True:
            if os.path.lexists(target):
                if not self.check(digest, full=True):
                    shutil.rmtree(folder)
                    return
                self.drop(digest)
            try:
                folder.rename(target)
            except OSError as error:
                # Another process made the same object between the look and the rename.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            else:
                fsync_dir(self.root)
                return

    def look(self, digest: str) -> str:
        """Return what is wrong with an object as far as names and sizes tell, or "": no content is read."""
        return self._listing(digest)[1]

    def check(self, digest: str, *, full: bool = False, report: Callable[[int, int], None] | None = None) -> str:
        """Return what is wrong with an object, or "" when it is whole.

        Names and sizes are compared always, contents on the first use in this process or with `full`;
        `report` is told bytes read and bytes in all where contents are.
        """
        files, problem = self._listing(digest)
        if problem or (digest in self._verified and not full):
            return problem
        track = _Track(report, sum(size for _, _, size in files))
        for name, sha, size in files:
            try:
                if hash_file(self.path(digest) / name, report=track.reading)[1] != sha:
                    return f"{name} does not match its digest"
            except OSError as error:
                return f"{name}: {error.strerror}"
            track.ended(size)
        self._verified.add(digest)
        return ""

    def _listing(self, digest: str) -> tuple[list[tuple[str, str, int]], str]:
        """Return the (path, SHA-256, size) of an object's files and what is wrong: links, names, sizes."""
        folder = self.path(digest)
        if folder.is_symlink():
            return [], "a link stands in its place"
        manifest = read_json(folder / MANIFEST)
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), list):
            return [], f"{MANIFEST} is missing or not readable"
        try:
            files = [(str(name), str(sha), int(size)) for name, sha, size in manifest["files"]]
        except (TypeError, ValueError):
            return [], f"{MANIFEST} is not readable"
        if digest_of(str(manifest.get("kind")), [list(entry) for entry in files]) != digest:
            return files, f"{MANIFEST} does not belong to this digest"
        strange = _strange(folder, {MANIFEST, *(name for name, _, _ in files)})
        if strange:
            return files, strange
        for name, _, size in files:
            try:
                if (folder / name).stat().st_size != size:
                    return files, f"{name} has the wrong size"
            except OSError as error:
                return files, f"{name}: {error.strerror}"
        return files, ""

    def drop(self, digest: str) -> None:
        """Remove an object: first out of sight by a rename, then file by file."""
        self._verified.discard(digest)
        target = self.path(digest)
        grave = self.tmp / f"drop-{secrets.token_hex(8)}"
        with disk_errors(target):
            try:
                self.tmp.mkdir(parents=True, exist_ok=True)
                target.rename(grave)
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                # A full disk has no room for another name, and removing is how there will be room again: without
                # its manifest the object counts as not there.
                grave = target
                with contextlib.suppress(OSError):
                    (target / MANIFEST).unlink()
            if grave.is_symlink() or not grave.is_dir():
                grave.unlink(missing_ok=True)
            else:
                shutil.rmtree(grave, ignore_errors=True)

    def digests(self) -> list[str]:
        """Return the digests of all objects."""
        with disk_errors(self.root, "read"):
            if not self.root.is_dir():
                return []
            with os.scandir(self.root) as entries:
                return sorted(entry.name.replace("-", ":", 1) for entry in entries if entry.name.startswith("sha256-"))

    def size(self, digest: str) -> int:
        """Return the bytes of an object's files, by its manifest; 0 when it is damaged."""
        manifest = read_json(self.path(digest) / MANIFEST)
        try:
            return sum(int(entry[2]) for entry in manifest["files"]) if manifest else 0
        except (KeyError, TypeError, ValueError, IndexError):
            return 0


class _Track:
    """Bytes of the files before the one that is read, so that several files count as one."""

    def __init__(self, report: Callable[[int, int], None] | None, total: int) -> None:
        self._report = report
        self._before = 0
        self._total = total

    def reading(self, size: int) -> None:
        """Take note of the bytes read so far of the present file."""
        if self._report is not None:
            self._report(self._before + size, self._total)

    def ended(self, size: int) -> None:
        """Take note that a file of this size has been read."""
        self._before += size


def _strange(folder: Path, known: set[str]) -> str:
    """Return what lies in an object that its manifest does not name, or is no plain file; "" when there is nothing."""
    for current, names, files in os.walk(folder):
        place = Path(current)
        for name in names:
            if (place / name).is_symlink():
                return f"{(place / name).relative_to(folder).as_posix()} is a link"
        for name in files:
            path = place / name
            short = path.relative_to(folder).as_posix()
            if path.is_symlink():
                return f"{short} is a link"
            if short not in known:
                return f"{short} is not in {MANIFEST}"
    return ""

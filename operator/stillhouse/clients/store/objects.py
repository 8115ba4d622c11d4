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

from stillhouse.clients.store.files import disk_errors, fsync_dir, make_dirs, write_json
from stillhouse.clients.store.manifests import MANIFEST, digest_of, read_manifest
from stillhouse.clients.store.packed import PackedObjects
from stillhouse.digests import hash_file
from stillhouse.errors import StoreError

__all__ = ["MANIFEST", "ObjectStore", "digest_of"]


class ObjectStore:
    """Objects below one folder, and those at rest (`packed`) in another. `root` and `tmp` lie on the same file system.

    An object is there plain, packed, or both: then the plain one is a copy that `opened` made, and goes again with `pack`.
    """

    def __init__(self, root: Path, tmp: Path, packed: Path | None = None) -> None:
        self.root = root
        self.tmp = tmp
        self.packed = PackedObjects(packed or root.parent / "packed", tmp)
        self._verified: set[str] = set()

    def path(self, digest: str) -> Path:
        """Return where the plain object of this digest lies, or would lie: `opened` sees to it that it does."""
        return self.root / digest.replace(":", "-")

    def opened(self, digest: str, report: Callable[[int, int], None] | None = None) -> Path:
        """Return an object's folder; what is at rest is unpacked there, once. Files are read and mapped from there as ever.

        `report` is told bytes unpacked, and bytes in all. An object that is not there at all has a folder that is none, too.

        Raises:
            StoreError: what is packed is damaged (the text names the file), or the disk is full.
        """
        target = self.path(digest)
        if os.path.lexists(target) or not self.packed.has(digest):
            return target
        folder = self.new_dir()
        try:
            problem = self.packed.unpack(digest, folder, report)
            if problem:
                raise StoreError(
                    f"a packed artifact is damaged: {problem}",
                    field=digest,
                    found=str(self.packed.path(digest)),
                    fix="run the command again: what it was made from makes it anew (still doctor --store finds all of them)",
                )
            with disk_errors(target):
                make_dirs(self.root)
                self._place(folder, digest)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._verified.add(digest)
        return target

    def pack(self, digest: str) -> int:
        """Put an object to rest if that pays; return the bytes freed on the disk (0: it stays as it is).

        Only while nobody else uses the store: whoever reads the plain files loses them.

        Raises:
            StoreError: the disk is full.
        """
        if not self.path(digest).is_dir():
            return 0
        if self.packed.has(digest):
            if self.packed.check(digest, full=True):
                self.packed.drop(digest)
                return 0  # the plain one stays, and is packed the next time
        elif self.look(digest) or not self.packed.write(self.path(digest), digest):
            return 0
        freed = read_manifest(self.packed.path(digest), digest)[0].size
        self._drop_plain(digest)
        return freed - self.packed.size(digest)

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
        if self._resting(digest):
            return self.packed.look(digest)
        return self._listing(digest)[1]

    def check(self, digest: str, *, full: bool = False, report: Callable[[int, int], None] | None = None) -> str:
        """Return what is wrong with an object, or "" when it is whole.

        Names and sizes are compared always, contents on the first use in this process or with `full`;
        `report` is told bytes read and bytes in all where contents are.
        """
        if self._resting(digest):
            return self.packed.check(digest, full=full, report=report)
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

    def _resting(self, digest: str) -> bool:
        return not os.path.lexists(self.path(digest)) and self.packed.has(digest)

    def _listing(self, digest: str) -> tuple[tuple[tuple[str, str, int], ...], str]:
        """Return the (path, SHA-256, size) of an object's files and what is wrong: links, names, sizes."""
        folder = self.path(digest)
        if folder.is_symlink():
            return (), "a link stands in its place"
        manifest, problem = read_manifest(folder, digest)
        files = manifest.files
        if problem:
            return files, problem
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
        """Remove an object, plain and packed: first out of sight by a rename, then file by file."""
        self._drop_plain(digest)
        self.packed.drop(digest)

    def _drop_plain(self, digest: str) -> None:
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
        """Return the digests of all objects, plain and packed."""
        with disk_errors(self.root, "read"):
            plain: list[str] = []
            if self.root.is_dir():
                with os.scandir(self.root) as entries:
                    plain = [entry.name.replace("-", ":", 1) for entry in entries if entry.name.startswith("sha256-")]
        return sorted({*plain, *self.packed.digests()})

    def size(self, digest: str) -> int:
        """Return the bytes that an object takes: its files by its manifest (0 when it is damaged), and what is packed of it."""
        plain = 0 if self._resting(digest) else read_manifest(self.path(digest), digest)[0].size
        return plain + self.packed.size(digest)


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

"""Objects at rest: the same files and the same manifest, those compressed of which that saves a tenth.

A digest is always over the plain bytes. Which form a file has tells its name alone: `model.safetensors.still.zst` or as it was.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stillhouse.clients.store import zstd
from stillhouse.clients.store.files import disk_errors, fsync_dir, make_dirs
from stillhouse.clients.store.manifests import MANIFEST, Manifest, read_manifest

__all__ = ["WORTH", "PackedObjects"]

WORTH = 0.1
"""The share of an object that packing must save: below, the copy that every use makes costs more than it gives."""
_SMALLEST = 1 << 20
"""Bytes below which an object is left alone: a file system's blocks eat what there is to win."""
Report = Callable[[int, int], None]


class PackedObjects:
    """Packed objects below one folder. `tmp` lies on the same file system."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root = root
        self.tmp = tmp
        self._verified: set[str] = set()

    def path(self, digest: str) -> Path:
        """Return where the packed object of this digest lies, or would lie."""
        return self.root / digest.replace(":", "-")

    def has(self, digest: str) -> bool:
        """Return whether there is a packed object of this digest, damaged or not."""
        return self.path(digest).is_dir()

    def digests(self) -> list[str]:
        """Return the digests of all packed objects."""
        with disk_errors(self.root, "read"):
            if not self.root.is_dir():
                return []
            with os.scandir(self.root) as entries:
                return sorted(entry.name.replace("-", ":", 1) for entry in entries if entry.name.startswith("sha256-"))

    def size(self, digest: str) -> int:
        """Return the bytes of a packed object's files; 0 where there is none."""
        return sum(each.lstat().st_size for each in self.path(digest).rglob("*") if each.is_file() and each.name != MANIFEST)

    def pays(self, folder: Path, digest: str) -> bool:
        """Return whether packing the plain object in `folder` would save a tenth of it, judged by samples.

        Not where another object has the same file (a revision is a link to the candidate that won): only a copy would come of it.

        Raises:
            MissingPackages: zstandard is not installed.
        """
        manifest, problem = read_manifest(folder, digest)
        if problem or manifest.size < _SMALLEST:
            return False
        if any((folder / name).stat().st_nlink > 1 for name, _, size in manifest.files if size >= _SMALLEST):
            return False
        saved = sum(size * max(0.0, zstd.promise(folder / name)) for name, _, size in manifest.files)
        return saved >= WORTH * manifest.size

    def write(self, folder: Path, digest: str) -> bool:
        """Pack the plain object in `folder`; return whether it is packed now: not where it is damaged or that does not pay.

        Raises:
            StoreError: the disk is full. MissingPackages: zstandard is not installed.
        """
        manifest, problem = read_manifest(folder, digest)
        if problem or not self.pays(folder, digest):
            return False
        with disk_errors(self.root), self._aside() as aside:
            stored = 0
            for name, sha, size in manifest.files:
                written = _pack(folder / name, aside / name, sha)
                if written is None:
                    return False
                stored += written if written < size else size
            if stored > (1 - WORTH) * manifest.size:
                return False
            shutil.copyfile(folder / MANIFEST, aside / MANIFEST)
            for each in aside.rglob("*"):
                if each.is_file():
                    _sync(each)
                    each.chmod(0o444)
                else:
                    fsync_dir(each)
            fsync_dir(aside)
            aside.chmod(0o755)
            # What nobody can unpack is not packed: it is read back before the plain files go.
            if self._read(aside, manifest, None):
                return False
            make_dirs(self.root)
            aside.rename(self.path(digest))
            fsync_dir(self.root)
        self._verified.add(digest)
        return True

    def unpack(self, digest: str, target: Path, report: Report | None = None) -> str:
        """Write the plain files into the empty folder `target`, durable and read-only; return what is wrong, or "".

        Raises:
            StoreError: the disk is full. MissingPackages: zstandard is not installed.
        """
        source = self.path(digest)
        manifest, problem = read_manifest(source, digest)
        if problem:
            return problem
        with disk_errors(target):
            problem = self._read(source, manifest, target, report)
            if problem:
                return problem
            shutil.copyfile(source / MANIFEST, target / MANIFEST)
            for each in target.rglob("*"):
                if each.is_file():
                    _sync(each)
                    each.chmod(0o444)
                else:
                    fsync_dir(each)
            fsync_dir(target)
            target.chmod(0o755)
        return ""

    def look(self, digest: str) -> str:
        """Return what is wrong as far as names and sizes tell, or ""; no content is read."""
        folder = self.path(digest)
        if folder.is_symlink():
            return "a link stands in its place"
        manifest, problem = read_manifest(folder, digest)
        if problem:
            return problem
        for name, _, size in manifest.files:
            found = _form(folder, name)
            try:
                length = zstd.plain_size(found) if found.name.endswith(zstd.SUFFIX) else found.stat().st_size
            except zstd.Damaged as error:
                return f"{found.relative_to(folder)}: {error}"
            except OSError as error:
                return f"{name}: {error.strerror}"
            if length != size:
                return f"{found.relative_to(folder)} has the wrong size"
        return ""

    def check(self, digest: str, *, full: bool = False, report: Report | None = None) -> str:
        """Return what is wrong, or "" when every file unpacks to the bytes of its digest. Read once a process, or with `full`.

        Raises:
            MissingPackages: zstandard is not installed.
        """
        problem = self.look(digest)
        if problem or (digest in self._verified and not full):
            return problem
        problem = self._read(self.path(digest), read_manifest(self.path(digest), digest)[0], None, report)
        if not problem:
            self._verified.add(digest)
        return problem

    def drop(self, digest: str) -> None:
        """Remove a packed object; one that is not there is no error."""
        self._verified.discard(digest)
        target = self.path(digest)
        with disk_errors(target):
            if target.is_symlink():
                target.unlink()
                return
            if not target.is_dir():
                return
            make_dirs(self.tmp)
            grave = self.tmp / f"drop-{secrets.token_hex(8)}"
            try:
                target.rename(grave)
            except OSError:  # a full disk has no room for another name
                (target / MANIFEST).unlink(missing_ok=True)
                grave = target
            shutil.rmtree(grave, ignore_errors=True)

    def _read(self, folder: Path, manifest: Manifest, target: Path | None, report: Report | None = None) -> str:
        """Read every file back, into `target` where there is one; return what is wrong with the first that is."""
        done = 0
        for name, sha, size in manifest.files:
            found = _form(folder, name)
            digest = hashlib.sha256()
            length = 0
            try:
                with found.open("rb") as source, _writing(target, name) as out:
                    for block in _blocks(found, source, size):
                        digest.update(block)
                        length += len(block)
                        if out is not None:
                            out.write(block)
                        if report is not None:
                            report(done + length, manifest.size)
            except zstd.Damaged as error:
                return f"{found.relative_to(folder)}: {error}"
            except FileNotFoundError:
                return f"{name} is missing"
            if length != size or digest.hexdigest() != sha:
                return f"{found.relative_to(folder)} does not match its digest"
            done += size
        return ""

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        make_dirs(self.tmp)
        folder = Path(tempfile.mkdtemp(dir=self.tmp, prefix="pack-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # renamed away where it was finished


def _pack(source: Path, target: Path, sha: str) -> int | None:
    """Write a file in its smaller form; return its bytes there, None where the source is not what its digest says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    packed = target.with_name(target.name + zstd.SUFFIX)
    with source.open("rb") as plain, packed.open("wb") as out:
        digest = hashlib.sha256()
        size, stored = zstd.compress(plain, out, seen=digest.update)
    if digest.hexdigest() != sha:
        return None
    if stored <= (1 - WORTH) * size:
        return stored
    packed.unlink()
    shutil.copyfile(source, target)
    return size


def _form(folder: Path, name: str) -> Path:
    """Return the file that holds `name`: the compressed one where there is one."""
    packed = folder / (name + zstd.SUFFIX)
    return packed if packed.is_file() else folder / name


def _blocks(path: Path, source: IO[bytes], size: int) -> Iterator[bytes]:
    if path.name.endswith(zstd.SUFFIX):
        yield from zstd.decompress(source, limit=size)
        return
    while block := source.read(zstd.BLOCK):
        yield block


@contextmanager
def _writing(target: Path | None, name: str) -> Iterator[IO[bytes] | None]:
    if target is None:
        yield None
        return
    path = target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        yield out


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())

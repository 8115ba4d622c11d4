"""What was built, as one file for a machine that builds nothing: model, cascade, halves, and the file that asked for them."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse.api.load import load_text
from stillhouse.api.model import DistilledModel
from stillhouse.clients.store.files import disk_errors, make_dirs
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.objects import MANIFEST
from stillhouse.entrypoints.edge.remarks import older
from stillhouse.errors import DataError, StoreError, UsageError

__all__ = ["SUFFIX", "is_packed", "pack", "target_of", "unpack"]

SUFFIX = ".still.tar"
_VERSION = 1
_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_CONTENTS, _FILE = "contents.json", "distilledmodel.yaml"
_REVISION: Mapping[str, type] = {
    "digest": str, "precision": str, "size": int, "index": str, "cascade": str, "cut": str, "figures": dict, "truncated": dict,
    "candidates": list, "serve": dict, "steps": list, "planHash": str, "fileHash": str, "lineage": dict, "time": str,
}  # fmt: skip
"""What a revision says of itself, each or null; without the first two there is none."""


def target_of(name: str, out: Path | None) -> Path:
    """Return the file to write: NAME.still.tar here, in the folder `out`, or `out` itself.

    Raises:
        UsageError: the file's name has another ending, by which nobody would know what it is, or its folder is not there.
    """
    if out is None:
        return Path(f"{name}{SUFFIX}")
    if out.is_dir():
        return out / f"{name}{SUFFIX}"
    if not out.parent.is_dir():
        raise UsageError(
            "there is no such folder", field="--out", found=str(out.parent), fix=f"mkdir -p {shlex.quote(str(out.parent))}"
        )
    if not out.name.endswith(SUFFIX) or out.name == SUFFIX:
        stem = out.name.removesuffix(".tar").removesuffix(".still").rstrip(".") or name
        raise UsageError(
            "what still pack writes is told by its name",
            field="--out",
            found=str(out),
            allowed=f"a file that ends in {SUFFIX}, or a folder that is there",
            fix=f"--out {shlex.quote(str(out.with_name(stem + SUFFIX)))}",
        )
    return out


def is_packed(file: Path) -> bool:
    """Say whether a file is one of `pack`'s, by its name or, where it was renamed, as a tar by its beginning."""
    if file.name.endswith(SUFFIX):
        return True
    try:
        with file.open("rb") as stream:
            return stream.read(262)[257:] == b"ustar"
    except OSError:
        return False


def pack(store: LocalStore, name: str, out: Path) -> tuple[int, tuple[str, ...]]:
    """Write what was built of a model to `out`. A tar without compression, which would save a sixth or a fifth.

    Returns:
        Its bytes, and what is to be said: that `still edge` would not start, or that the file asks for something else by now.

    Raises:
        UsageError: nothing was built, or the file that it was built from is gone. SpecError: that file is wrong now.
        StoreError: what was built is damaged, or the disk is full.
    """
    state = store.state(name)
    revision = state.get("revision")
    if not revision:
        raise UsageError("nothing has been built of this model", field="NAME", found=name, fix="still build FILE")
    file = Path(revision.get("file") or state.get("file") or "")
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "the file that the model was built from is not there",
            field="NAME",
            found=f"{file}: {error.strerror}",
            fix="still build FILE",
        ) from error
    remarks = _remarks(load_text(text, str(file)), file, revision)
    # The index is part of the cascade where there is one; alone it is of use to clients only, so it stays here.
    digests = [digest for digest in (revision["digest"], revision.get("cascade"), revision.get("cut")) if digest]
    for digest in digests:
        problem = store.objects.check(digest, full=True)
        if problem:
            raise StoreError(f"what was built is damaged: {problem}", field=name, fix=f"still build {file}")
    contents = {
        "version": _VERSION,
        "name": name,
        "objects": [{"digest": digest, "kind": _kind(store, digest)} for digest in digests],
        "revision": {key: revision.get(key) for key in _REVISION} | {"index": None},
    }
    partial = out.with_name(out.name + ".part")
    with disk_errors(out):
        try:
            with tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
                _add(archive, _CONTENTS, json.dumps(contents, sort_keys=True).encode())
                _add(archive, _FILE, text.encode())
                for digest in digests:
                    folder = store.objects.opened(digest)
                    for each in sorted(folder.rglob("*")):
                        if each.is_file() and each.name != MANIFEST:
                            relative = each.relative_to(folder).as_posix()
                            archive.add(each, f"objects/{digest[7:]}/{relative}", recursive=False, filter=_plain)
            partial.replace(out)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    return out.stat().st_size, remarks


def _remarks(model: DistilledModel, file: Path, revision: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what `still edge` would refuse on the other machine, or what has changed since: there nobody can mend it."""
    edge = model.spec.edge
    again = f"still build {shlex.quote(str(file))}, and pack again"
    if edge is None:
        solved = " (what was built has a cascade)" if revision.get("cascade") else ""
        return (
            f"{file}, the file that was built last, has no spec.edge{solved}: still edge will refuse what was packed. Build the"
            " file that has it, or write edge: {} into this one; then pack again",
        )
    lacking = [
        f"{file} asks for spec.edge.{field}, and what was built has none: {again}"
        for field, asked in (("cascade", edge.cascade), ("cut", edge.cut))
        if asked is not None and not revision.get(field)
    ]
    unasked = [
        f"what was built has a {field}, and {file} asks for none now: it will not be used"
        for field, asked in (("cascade", edge.cascade), ("cut", edge.cut))
        if asked is None and revision.get(field)
    ]
    changed = "" if lacking or unasked else older(model, file, revision)
    return (*lacking, *unasked, *([changed] if changed else []))


def unpack(store: LocalStore, archive: Path) -> Path:
    """Put what a file of `pack` holds into the store, every content verified; return the resource's file.

    Raises:
        UsageError: it is not there. DataError: it is no such file, or what it holds does not match its digests.
    """
    try:
        with tarfile.open(archive, "r:") as opened:
            return _unpacked(store, archive, opened)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UsageError("there is no such file", field="FILE", found=f"{archive}: {error.strerror}") from error
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError("this is no file of still pack", field="FILE", found=f"{archive}: {error}") from error


def _unpacked(store: LocalStore, archive: Path, opened: tarfile.TarFile) -> Path:
    contents = json.loads(_read(opened, _CONTENTS))
    if not isinstance(contents, dict) or not isinstance(contents["revision"], dict):
        raise ValueError(f"{_CONTENTS} is something else")
    if contents["version"] != _VERSION:
        raise DataError(
            "this file is of another version of still pack", field="FILE", found=str(contents["version"]), allowed=str(_VERSION)
        )
    text = _read(opened, _FILE).decode()
    model = load_text(text, f"{archive}: {_FILE}")
    name, revision = model.metadata.name, contents["revision"]
    if name != contents["name"] or revision["digest"] not in {each["digest"] for each in contents["objects"]}:
        raise DataError("the parts of this file do not belong together", field="FILE", found=str(archive))
    wanted = [(str(each["digest"]), str(each["kind"])) for each in contents["objects"]]
    for wrong in (digest for digest, _ in wanted if not _DIGEST.fullmatch(digest)):
        raise ValueError(f"{wrong[:100]!r} is no digest")
    revision = _known(revision, {digest for digest, _ in wanted})
    for digest, kind in wanted:
        if not store.objects.check(digest):
            continue
        folder = store.objects.new_dir()
        try:
            _extract(opened, f"objects/{digest[7:]}/", folder)
            found, _ = store.objects.put(folder, kind)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if found != digest:
            raise DataError("what this file holds does not match its digest", field="FILE", found=found, allowed=digest)
    place = store.root / "edge" / name
    make_dirs(place)
    target = place / _FILE
    target.write_text(text, encoding="utf-8")
    _remember(store, name, target, revision)
    return target


def _known(revision: Mapping[str, Any], digests: set[str]) -> dict[str, Any]:
    """Return what is known of a revision. Whoever wrote it, it names no object but the file's own.

    Raises:
        ValueError: a part is something else.
    """
    found = {name: revision.get(name) for name in _REVISION}
    for name, value in found.items():
        kind = _REVISION[name]
        absent = value is None and name not in ("digest", "precision")
        if not absent and (type(value) is not kind or (kind is str and not str(value).isprintable())):
            raise ValueError(f"revision.{name} is something else")
        if not absent and name in ("digest", "cascade", "cut", "index") and value not in digests:
            raise ValueError(f"revision.{name} is not among the objects")
    sources = (found["lineage"] or {}).get("sources") or []
    if not isinstance(sources, list) or not all(isinstance(each, dict) for each in sources):
        raise ValueError("revision.lineage is something else")
    return found


def _remember(store: LocalStore, name: str, file: Path, revision: Mapping[str, Any]) -> None:
    """Make the revision the model's here; a former one is kept, as after a build.

    Where the model is built, what is known of it stays: the file that a rebuild needs, with its sources beside it, and of the
    very revision its index too, which was not packed.
    """
    with store.model(name):
        state = store.state(name)
        former = state.get("revision")
        here = bool(state.get("steps"))
        if here and former and all(former.get(each) == revision.get(each) for each in ("digest", "cascade", "cut")):
            return
        if former and former["digest"] != revision["digest"]:
            state["history"] = [former, *state.get("history", [])][:3]
        made = {**revision, "file": str(file)} if here else dict(revision)
        kept = state["file"] if here else str(file)
        store.write_state(name, {**state, "name": name, "file": kept, "revision": made, "pinned": None})


def _extract(opened: tarfile.TarFile, prefix: str, folder: Path) -> None:
    """Write plain files below `prefix` into `folder`; nothing else is taken, and nothing leads out of it."""
    for member in opened.getmembers():
        if not member.name.startswith(prefix):
            continue
        relative = Path(member.name.removeprefix(prefix))
        # A sparse one is as large as it says it is, whatever the file's size.
        if not member.isreg() or member.issparse() or relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise DataError("an artifact holds plain files only", field="FILE", found=member.name[:200])
        source = opened.extractfile(member)
        assert source is not None  # a regular file
        target = folder / relative
        with disk_errors(target), source:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)


def _read(opened: tarfile.TarFile, name: str) -> bytes:
    source = opened.extractfile(name)
    if source is None:
        raise ValueError(f"{name} is no file")
    with source:
        return source.read(16 << 20)


def _kind(store: LocalStore, digest: str) -> str:
    return str(json.loads((store.objects.opened(digest) / MANIFEST).read_bytes())["kind"])


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode = len(content), 0o644
    archive.addfile(about, io.BytesIO(content))


def _plain(about: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out whose files they were and when: the same build gives the same bytes."""
    about.uid = about.gid = about.mtime = 0
    about.uname = about.gname = ""
    about.mode = 0o644
    return about

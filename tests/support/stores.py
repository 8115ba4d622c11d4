"""Stores for tests: objects, receipts, and everything that can happen to them on a disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.objects import MANIFEST
from stillhouse.clients.store.receipts import Receipt

__all__ = ["DAMAGE", "FILES", "digest", "key", "put", "receipt_of", "state_of"]

FILES: Mapping[str, bytes] = {
    "model.onnx": bytes(range(256)) * 64,
    "signature.json": b'{"task": "t"}',
    "shards/part-0": b"x" * 4096,
}


def key(name: str) -> str:
    """Return a step key as planning would."""
    return hashlib.sha256(name.encode()).hexdigest()


def digest(name: str) -> str:
    """Return a well-formed digest of nothing in particular."""
    return f"sha256:{key(name)}"


def put(store: LocalStore, files: Mapping[str, bytes] = FILES, kind: str = "onnx-model") -> str:
    """Put files into the store as a pass's output would be; return the digest."""
    folder = store.objects.new_dir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return store.objects.put(folder, kind)[0]


def receipt_of(step: str, artifact: str, **changes: object) -> Receipt:
    """Return a receipt of a step with this name."""
    values: dict[str, object] = {
        "key": key(step),
        "step": step,
        "stage": "train",
        "pass_name": "distill",
        "version": 1,
        "config": {"epochs": 3, "learningRate": 0.001},
        "parents": {"teacher": key("teacher")},
        "artifact": artifact,
        "kind": "onnx-model",
        "size": 12,
        "facts": {"loss": 0.25, "curve": [1.0, 0.5], "seed": 7},
    }
    return Receipt(**{**values, **changes})  # type: ignore[arg-type]


def _writable(path: Path) -> Path:
    path.chmod(0o644)
    return path


def _truncate(folder: Path) -> None:
    path = _writable(folder / "model.onnx")
    path.write_bytes(path.read_bytes()[:-1])


def _grow(folder: Path) -> None:
    with _writable(folder / "model.onnx").open("ab") as stream:
        stream.write(b"\0")


def _flip(folder: Path) -> None:
    path = _writable(folder / "model.onnx")
    content = bytearray(path.read_bytes())
    content[4711] ^= 0x10
    path.write_bytes(content)


def _empty_manifest(folder: Path) -> None:
    _writable(folder / MANIFEST).write_bytes(b"")


def _forged_manifest(folder: Path) -> None:
    """A manifest that agrees with the changed file, but not with the name of the object."""
    _flip(folder)
    path = _writable(folder / MANIFEST)
    data = json.loads(path.read_text())
    for entry in data["files"]:
        entry[1] = hashlib.sha256((folder / entry[0]).read_bytes()).hexdigest()
    path.write_text(json.dumps(data))


def _odd_manifest(folder: Path) -> None:
    _writable(folder / MANIFEST).write_text('{"kind": "onnx-model", "files": [["model.onnx", 3]]}')


def _link(folder: Path) -> None:
    """The same contents, but somewhere else: they could change or vanish without the store's knowledge."""
    path = folder / "model.onnx"
    aside = folder.parent.parent / "aside.onnx"
    shutil.copyfile(path, aside)
    path.unlink()
    path.symlink_to(aside)


def _linked_folder(folder: Path) -> None:
    aside = folder.parent.parent / "aside"
    shutil.copytree(folder / "shards", aside)
    shutil.rmtree(folder / "shards")
    (folder / "shards").symlink_to(aside)


def _whole_link(folder: Path) -> None:
    aside = folder.parent.parent / "elsewhere"
    shutil.move(folder, aside)
    folder.symlink_to(aside)


def _file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def _directory_instead(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()


DAMAGE: Mapping[str, Callable[[Path], object]] = {
    "a truncated file": _truncate,
    "a grown file": _grow,
    "a flipped bit": _flip,
    "a missing file": lambda folder: (folder / "model.onnx").unlink(),
    "a missing folder inside": lambda folder: shutil.rmtree(folder / "shards"),
    "a file too many": lambda folder: (folder / "extra.py").write_bytes(b"import os"),
    "a directory in a file's place": _directory_instead,
    "a link to a file": _link,
    "a link to a folder": _linked_folder,
    "a link in the object's place": _whole_link,
    "a file in the object's place": _file_instead,
    "no manifest": lambda folder: (folder / MANIFEST).unlink(),
    "an empty manifest": _empty_manifest,
    "a manifest of another shape": _odd_manifest,
    "a manifest that fits the damage": _forged_manifest,
    "nothing at all": shutil.rmtree,
}
"""What can be wrong with an object → what does it, given the object's folder."""


def state_of(store: LocalStore) -> dict[str, Any]:
    """Return everything that counts in a store: receipts without times, objects, scratch, leftovers."""
    receipts = {}
    for name in store.receipt_keys():
        found = store.receipt(name)
        receipts[name] = (
            None if found is None else (found.step, found.artifact, found.size, dict(found.parents), dict(found.facts))
        )
    work = store.root / "work"
    return {
        "receipts": receipts,
        "objects": {name: store.objects.check(name, full=True) for name in store.objects.digests()},
        "work": sorted(path.name for path in work.iterdir()) if work.is_dir() else [],
        "tmp": sorted(path.name for path in store.tmp.iterdir()) if store.tmp.is_dir() else [],
    }

"""The local store: objects, receipts, locks, scratch, and what is known of each model."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stillhouse.clients.store.files import disk_errors, make_dirs, read_json, read_sealed, write_json, write_sealed
from stillhouse.clients.store.locks import hold, holder
from stillhouse.clients.store.objects import ObjectStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.errors import UsageError

__all__ = ["LocalStore"]

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


class LocalStore:
    """A store in a folder. The layout is in docs/design/20261122-contracts.md, section 4."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tmp = root / "tmp"
        self.objects = ObjectStore(root / "objects", self.tmp)

    # receipts ---------------------------------------------------------------------------------------------------------

    def receipt_path(self, key: str) -> Path:
        """Return where the receipt of a step lies."""
        return self.root / "steps" / f"{key}.json"

    def receipt(self, key: str) -> Receipt | None:
        """Return the receipt of a step; None when it has none (or a damaged one)."""
        receipt = Receipt.from_json(read_json(self.receipt_path(key)))
        return receipt if receipt is not None and receipt.key == key else None

    def done(self, key: str, *, contents: bool = True, report: Callable[[int, int], None] | None = None) -> Receipt | None:
        """Return the receipt of a step whose object is whole; None when it must run (again). Changes nothing.

        Without `contents` names and sizes decide: a store of gigabytes is not read to say what a plan would do. `report`
        is told bytes read and bytes in all.
        """
        receipt = self.receipt(key)
        if receipt is None:
            return None
        objects = self.objects
        problem = objects.check(receipt.artifact, report=report) if contents else objects.look(receipt.artifact)
        return None if problem else receipt

    def finish(self, receipt: Receipt) -> None:
        """Write a receipt. Its object must be in the store already: the receipt is what makes it count."""
        write_json(self.receipt_path(receipt.key), receipt.to_json(), tmp=self.tmp)

    def forget(self, key: str) -> None:
        """Remove a receipt; the step will run again."""
        self.receipt_path(key).unlink(missing_ok=True)

    def receipt_keys(self) -> list[str]:
        """Return the keys of all receipts."""
        folder = self.root / "steps"
        with disk_errors(folder, "read"):
            if not folder.is_dir():
                return []
            with os.scandir(folder) as entries:
                return sorted(entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json"))

    # locks ------------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Hold the store against garbage collection while a build or a server start goes on."""
        with hold(self._lock("store"), shared=True):
            yield

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the whole store; raises `locks.Busy` while anybody uses it."""
        with hold(self._lock("store"), wait=False):
            yield

    @contextlib.contextmanager
    def step(self, key: str, on_wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Hold one step: of two processes that want it, the second waits and then finds the receipt."""
        with hold(self._lock(f"step-{key}"), on_wait=on_wait):
            yield

    @contextlib.contextmanager
    def model(self, name: str, on_wait: Callable[[str], None] | None = None, *, wait: bool = True) -> Iterator[None]:
        """Hold a model's name: one build or server start of it at a time."""
        self._model_dir(name)
        with hold(self._lock(f"model-{name}"), on_wait=on_wait, wait=wait):
            yield

    def builder(self, name: str) -> str:
        """Return the process id of whoever builds or starts a model at this moment, "" when nobody does. Keeps nobody out."""
        self._model_dir(name)
        found = holder(self._lock(f"model-{name}"))
        return "" if found is None else found or "unknown"

    def _lock(self, name: str) -> Path:
        return self.root / "locks" / f"{name}.lock"

    # scratch ----------------------------------------------------------------------------------------------------------

    def scratch(self, key: str) -> Path:
        """Return the folder of an unfinished step; it survives interruption."""
        path = self.root / "work" / key
        with disk_errors(path):
            make_dirs(path)
        return path

    def clear_scratch(self, key: str) -> None:
        """Remove the folder of a finished step."""
        shutil.rmtree(self.root / "work" / key, ignore_errors=True)

    # models -----------------------------------------------------------------------------------------------------------

    def _model_dir(self, name: str, below: str = "models") -> Path:
        """Return a model's folder; a name that would lead out of its place is refused."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                "that is no model's name", found=name[:80], allowed="small letters, digits and dashes, first a letter"
            )
        return self.root / below / name

    def state(self, name: str) -> dict[str, Any]:
        """Return what is known of a model; empty when nothing is."""
        return read_sealed(self._model_dir(name) / "state.json") or {}

    def state_damaged(self, name: str) -> bool:
        """Return whether something is written of a model that cannot be read."""
        path = self._model_dir(name) / "state.json"
        return path.exists() and read_sealed(path) is None

    def write_state(self, name: str, state: dict[str, Any]) -> None:
        """Replace what is known of a model."""
        write_sealed(self._model_dir(name) / "state.json", state, tmp=self.tmp)

    def forget_model(self, name: str) -> None:
        """Forget a model; its artifacts stay until `gc`."""
        shutil.rmtree(self._model_dir(name), ignore_errors=True)

    def model_names(self) -> list[str]:
        """Return the names of all known models."""
        folder = self.root / "models"
        with disk_errors(folder, "read"):
            return sorted(path.name for path in folder.iterdir() if (path / "state.json").is_file()) if folder.is_dir() else []

    def run_dir(self, name: str) -> Path:
        """Return the folder of a model's running servers."""
        return self._model_dir(name, "run")

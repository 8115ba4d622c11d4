"""What stage `resolve` has pinned, for the stages after it: they plan with the same digests, and fetch nothing.

It lies in the store under the model and the request, and goes when another request of that model is resolved.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from stillhouse.clients.sources import Resolved
from stillhouse.clients.store.files import make_dirs, read_sealed, write_sealed
from stillhouse.planning.plan import Pin

__all__ = ["Pinned", "forget", "models"]
_SOURCES = "sources"


def models(store: Path) -> set[str]:
    """Return the names of the models of which pins, or downloads that were broken off, lie in a store."""
    folder = store / _SOURCES
    return {each.name for each in folder.iterdir()} if folder.is_dir() else set()


def forget(store: Path, model: str) -> None:
    """Remove what a model has there."""
    shutil.rmtree(store / _SOURCES / model, ignore_errors=True)


class Pinned:
    """The folder of one build. `fetched` is where its downloads go: a pod that is killed leaves them to the next."""

    def __init__(self, store: Path, model: str, request: str) -> None:
        self._tmp = store / "tmp"
        self._all = store / _SOURCES / model
        self.folder = self._all / (request or "unnamed")
        self.fetched = self.folder / "cache"
        self._path = self.folder / "pins.json"

    def begin(self) -> None:
        """Make the folder, and remove those of the model's former requests."""
        make_dirs(self.folder)
        for other in self._all.iterdir():
            if other.name != self.folder.name:
                shutil.rmtree(other, ignore_errors=True)

    def write(self, resolved: Mapping[str, Resolved], pins: Mapping[str, Pin]) -> None:
        """Keep what every URI was found to be."""
        write_sealed(
            self._path,
            {
                "sources": {
                    uri: {
                        "uri": each.uri,
                        "digest": each.digest,
                        "path": str(each.path),
                        "commit": each.commit,
                        "size": pins[uri].size,
                        "info": dict(pins[uri].info),
                    }
                    for uri, each in resolved.items()
                }
            },
            tmp=self._tmp,
        )

    def read(self) -> dict[str, tuple[Resolved, Pin]] | None:
        """Return what was kept, None where nothing was (or it is damaged)."""
        data = read_sealed(self._path)
        if data is None:
            return None
        return {
            uri: (
                Resolved(each["uri"], each["digest"], Path(each["path"]), uri, each["commit"]),
                Pin(each["digest"], int(each["size"]), each["info"]),
            )
            for uri, each in data["sources"].items()
        }

    def imported(self) -> None:
        """Let the downloads go: what they brought is in the store."""
        shutil.rmtree(self.fetched, ignore_errors=True)

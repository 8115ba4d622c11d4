"""What a gateway loads from a store that others write to is held against its digests before anything of it is read."""

from __future__ import annotations

from pathlib import Path

from stillhouse.clients.store.objects import ObjectStore
from stillhouse.edge.config import Config
from stillhouse.edge.sections.places import Engine, Lower, Steps
from stillhouse.errors import StoreError

__all__ = ["verify"]


def verify(config: Config) -> None:
    """Check the artifacts of a configuration whose folders are those of a store.

    Raises:
        StoreError: one is not there, does not match its digest, or is another one than the configuration says.
    """
    if isinstance(config.edge, Engine | Steps):
        _check(config.name, "edge.folder", config.edge.folder, config.edge.digest)
    if isinstance(config.edge, Lower):
        _check(config.name, "edge.folder", config.edge.folder, "")
    if config.cascade is not None:
        _check(config.name, "cascade.folder", config.cascade.folder, "")


def _check(model: str, field: str, folder: Path, said: str) -> None:
    digest = folder.name.replace("-", ":", 1)  # as the store names it
    objects = ObjectStore(folder.parent, folder.parent.parent / "tmp")
    problem = objects.check(digest)
    if not problem:
        objects.opened(digest)
    if not problem and said and said != digest:
        problem = f"it is {digest}"
    if problem:
        raise StoreError(
            f"the artifact cannot be used: {problem}",
            field=field,
            found=str(folder),
            fix=f'build it again: kubectl annotate dm {model} --overwrite stillhouse.io/rebuild="$(date)"',
        )

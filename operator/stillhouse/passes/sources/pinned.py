"""A source must still be what the plan was made for, and one that may be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from stillhouse.clients.sources.access import unreadable
from stillhouse.clients.sources.digest import digest_of
from stillhouse.clients.store.files import disk_full
from stillhouse.errors import SourceError
from stillhouse.passes.base import Context
from stillhouse.passes.sources.folder import allowed_roots

__all__ = ["readable", "refuse_changed"]


@contextlib.contextmanager
def readable(ctx: Context, field: str) -> Iterator[None]:
    """Tell what the system says of the source's own files; what it says of others, and of a full disk, goes on.

    Planning believes a file unchanged by its time and size, so a right to read that was taken away is seen here first.

    Raises:
        SourceError: a file or folder of the source cannot be read.
    """
    try:
        yield
    except OSError as error:
        # Copying names the source also where it is the copy that cannot be written.
        if ctx.source is None or disk_full(error) or not isinstance(error.filename, str):
            raise
        path = Path(error.filename).resolve()
        roots = allowed_roots(ctx.source if ctx.source.is_dir() else ctx.source.parent)
        mine = (ctx.out.resolve(), ctx.scratch.resolve())  # the store may lie beside the data
        if not _below(path, roots) or _below(path, mine):
            raise
        raise unreadable(error, ctx.source.name, field) from error


def _below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def refuse_changed(source: Path, digest: str, field: str) -> None:
    """Hash the source again, after it was read: a step's result is kept under the digest that was planned with.

    Raises:
        SourceError: the source was changed between planning and now.
    """
    found = digest_of(source)
    if found != digest:
        raise SourceError(
            "the source was changed while it was read",
            field=field,
            found=found,
            allowed=digest,
            fix="let whatever writes it finish, then run the command again",
        )

"""A source must still be what the plan was made for."""

from __future__ import annotations

from pathlib import Path

from stillhouse.clients.sources.digest import digest_of
from stillhouse.errors import SourceError

__all__ = ["refuse_changed"]


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

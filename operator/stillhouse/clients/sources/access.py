"""What the system says of a source's files and their names, as a mistake that its user can mend."""

from __future__ import annotations

from stillhouse.errors import SourceError

__all__ = ["refuse_odd_name", "unreadable"]


def unreadable(error: OSError, what: str, field: str) -> SourceError:
    """Return what is raised where the system does not let a source be read; `what` is its URI or its name."""
    fix = "check that its disk is well and that nothing else changes it, then run the command again"
    if isinstance(error, PermissionError):
        fix = "ask its owner for the right to read it, or copy it to a folder of your own"
    return SourceError(
        "the source cannot be read",
        field=field,
        found=f"{what}: {error}"[:300],
        allowed="files that this user may read, in folders that this user may enter",
        fix=fix,
    )


def refuse_odd_name(name: str) -> None:
    """Refuse a name that is not UTF-8: names are part of digests and receipts, which are.

    Raises:
        SourceError: it is not.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceError(
            "the name of a file or folder is not UTF-8",
            field="uri",
            found=name.encode("utf-8", "backslashreplace").decode()[:300],
            allowed="names in UTF-8",
            fix="rename it",
        ) from error

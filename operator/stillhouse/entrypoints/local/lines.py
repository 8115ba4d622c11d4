"""Texts from outside, one a line."""

from __future__ import annotations

from stillhouse.errors import UsageError

__all__ = ["lines_of"]


def lines_of(content: bytes, field: str, *, blank: bool = False) -> list[str]:
    """Return the lines, with `blank` also those that hold nothing; `field` is where they come from.

    What follows the last line feed is no line where it is empty.

    Raises:
        UsageError: one is not UTF-8; whatever the locale says, which may be none at all.
    """
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                "the text is not UTF-8",
                field=field,
                found=f"byte 0x{line[error.start]:02x} at position {error.start} of line {number}",
                allowed="text in UTF-8",
                fix="convert it: iconv -f ENCODING -t UTF-8 FILE",
            ) from error
        if blank or text.strip():
            found.append(text)
    return found

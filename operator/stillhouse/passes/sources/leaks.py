"""Do two splits share texts? Training, calibration and gate data must not."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillhouse.errors import DataError

__all__ = ["Overlap", "leaks", "normalised", "refuse_found"]

_EXAMPLES = 3
_LEARNED = {"spec.distill.data", "spec.distill.unlabelled"}
_OR_LET = ", or have them left out: spec.distill.deduplicate: {}"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows of the second split whose text occurs in the first.

    `rows` counts them, `of` all rows of the second; `examples` are (row in the first, row in the second, text), the
    first ones, rows counted from 1, texts cut to 80 characters.
    """

    rows: int
    of: int
    examples: tuple[tuple[int, int, str], ...]


def normalised(text: str) -> str:
    """Return what makes two texts the same: Unicode NFKC, case folded, white space collapsed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def leaks(a: Iterable[str], b: Iterable[str]) -> Overlap:
    """Compare two splits by the hashes of their normalised texts.

    Memory: 16 bytes of digest and an index for every distinct text of `a`.
    """
    seen: dict[bytes, int] = {}
    for number, text in enumerate(a, 1):
        seen.setdefault(_hash(text), number)
    examples: list[tuple[int, int, str]] = []
    rows = total = 0
    for total, text in enumerate(b, 1):
        first = seen.get(_hash(text))
        if first is not None:
            rows += 1
            if len(examples) < _EXAMPLES:
                examples.append((first, total, text[:80]))
    return Overlap(rows, total, tuple(examples))


def refuse_found(found: Mapping[str, Overlap], held_out: str, *, note: str = "") -> None:
    """Refuse what was found of `held_out`, field by field, all at once: who mends one of them meets no other then.

    That rows are left out is offered only where it helps in every field; `note` is said behind it.

    Raises:
        DataError: there is an overlap.
    """
    there = {name: overlap for name, overlap in found.items() if overlap.rows}
    if not there:
        return
    names = " and ".join(there)
    shown = "; ".join(
        f"{overlap.rows} of {overlap.of} rows; "
        + "; ".join(f"row {second} is row {first} of {name}: {text!r}" for first, second, text in overlap.examples)
        for name, overlap in there.items()
    )
    raise DataError(
        f"the data leaks: texts of {held_out} are also in {names}",
        field=held_out,
        found=shown,
        allowed="splits that share no text (case and white space do not count)",
        fix=f"remove those rows from {names}" + (f"{_OR_LET}{note}" if there.keys() <= _LEARNED else f", or from {held_out}"),
    )


def _hash(text: str) -> bytes:
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()

"""Changes of a text that leave most of what it says: words exchanged, masked, swapped, or a run of them left out.

After Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques" (synonyms, swaps, deletion), and Devlin et al. 2019 (masks); the
synonyms are neighbours among the teacher's own token vectors, so that no dictionary is needed (`synonyms`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

__all__ = ["TEXT_CHANGES", "WORD", "TextChange", "change_text"]

WORD = re.compile(r"[^\W\d_]{3,}")
"""What may have a synonym: three letters at least, no digits."""
_GAPS = re.compile(r"(\s+)")

Generator = np.random.Generator
TextChange = Callable[[str, float, Generator], str]


def synonyms(text: str, share: float, generator: Generator, near: Mapping[str, Sequence[str]]) -> str:
    """Replace `share` of the words that have neighbours, one at least, each by one of its own; its capitals stay."""
    found = [match for match in WORD.finditer(text) if match[0].lower() in near]
    if not found:
        return text
    chosen = generator.choice(len(found), _some(share, len(found)), replace=False)
    parts, end = [], 0
    for at in sorted(chosen.tolist()):
        match = found[at]
        others = near[match[0].lower()]
        other = others[int(generator.integers(len(others)))]
        parts += [text[end : match.start()], _as_written(other, match[0])]
        end = match.end()
    return "".join([*parts, text[end:]])


def mask(text: str, share: float, generator: Generator, token: str) -> str:
    """Replace `share` of the words, one at least, by the tokenizer's mask."""
    words, gaps = _split(text)
    for at in generator.choice(len(words), _some(share, len(words)), replace=False).tolist():
        words[at] = token
    return _joined(words, gaps)


def swap(text: str, share: float, generator: Generator) -> str:
    """Exchange neighbours, so often that about `share` of the words move; the first exchange is sure."""
    words, gaps = _split(text)
    if len(words) < 2:
        return text
    for _ in range(max(1, round(share * len(words) / 2))):
        at = int(generator.integers(len(words) - 1))
        words[at], words[at + 1] = words[at + 1], words[at]
    return _joined(words, gaps)


def delete(text: str, share: float, generator: Generator) -> str:
    """Leave out one run of `share` of the words, one at least; one word stays."""
    words, gaps = _split(text)
    if len(words) < 2:
        return text
    length = min(_some(share, len(words)), len(words) - 1)
    first = int(generator.integers(len(words) - length + 1))
    del words[first : first + length]
    # The gap behind what is left out goes with it; behind the last word there is none, so the one before goes.
    gap = min(first, len(gaps) - length)
    del gaps[gap : gap + length]
    return _joined(words, gaps)


TEXT_CHANGES: tuple[str, ...] = ("synonym", "mask", "swap", "delete")


def change_text(kind: str, near: Mapping[str, Sequence[str]], mask_token: str) -> TextChange:
    """Return one of the changes with what it needs of the teacher: called with (text, share, generator)."""
    changes: dict[str, TextChange] = {
        "synonym": lambda text, share, generator: synonyms(text, share, generator, near),
        "mask": lambda text, share, generator: mask(text, share, generator, mask_token),
        "swap": swap,
        "delete": delete,
    }
    return changes[kind]


def _some(share: float, count: int) -> int:
    return min(count, max(1, round(share * count)))


def _split(text: str) -> tuple[list[str], list[str]]:
    """Return the words, and the white space between them."""
    parts = _GAPS.split(text.strip())
    return parts[::2], parts[1::2]


def _joined(words: Sequence[str], gaps: Sequence[str]) -> str:
    return "".join(part for pair in zip(words, [*gaps, ""], strict=True) for part in pair)


def _as_written(word: str, like: str) -> str:
    return word.upper() if like.isupper() else word.capitalize() if like[0].isupper() else word

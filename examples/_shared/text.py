"""Docstrings as text: normalisation, summary and body, what is cut out of them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["MASK", "mask_word", "normalise", "remove_phrase", "shorten", "split_summary", "usable"]

MASK = "___"
"""What a masked class name becomes: no word, so that neither a tokenizer nor TF-IDF learns from it."""

_BLANK_LINE = re.compile(r"\n[ \t]*\n")


def normalise(text: str) -> str:
    """Unicode NFKC, control characters dropped, every run of white space one blank."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def split_summary(docstring: str) -> tuple[str, str]:
    """Split off the first paragraph; both are normalised (PEP 257's summary and body).

    Args:
        docstring: as `ast.get_docstring` returns it, dedented and with its line ends.

    Returns:
        Summary and body; the body is empty where there is only one paragraph.
    """
    parts = _BLANK_LINE.split(docstring.strip(), maxsplit=1)
    return normalise(parts[0]), normalise(parts[1]) if len(parts) > 1 else ""


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of a normalised text, cut between two words."""
    if len(text) <= limit:
        return text
    return text[: limit + 1].rsplit(" ", 1)[0][:limit]


def remove_phrase(text: str, phrase: str) -> str:
    """`text` without the occurrences of `phrase` (any case): a body must not quote its own query."""
    phrase = phrase.rstrip(".")
    return normalise(re.sub(re.escape(phrase), " ", text, flags=re.IGNORECASE)) if phrase else text


def mask_word(text: str, word: str) -> str:
    """`text` with `word` replaced by `MASK` wherever it stands as a word or as a part of a dotted name (any case)."""
    return re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", MASK, text, flags=re.IGNORECASE)


def usable(text: str, least: int) -> bool:
    """Whether a text says something: `least` characters, three words, most of it letters."""
    return len(text) >= least and text.count(" ") >= 2 and 2 * sum(map(str.isalpha, text)) > len(text)

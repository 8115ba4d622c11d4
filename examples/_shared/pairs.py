"""Search pairs: a docstring's summary asks, its body is what has to be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillhouse.passes.sources.neighbours import clusters, similar_pairs

from .docstrings import Docstring
from .progress import Progress
from .splits import in_hash_order
from .text import remove_phrase, shorten, split_summary, usable

__all__ = ["LIMIT", "Cut", "Pair", "columns", "cut", "grouped", "pairs_of", "unalike", "units_of", "unlike_held_out"]

LIMIT = 2_000
"""Characters kept of a text: about what a 512-token window holds. Every method sees the same cut."""

LEAST_QUERY, LEAST_DOCUMENT = 20, 40


@dataclass(frozen=True)
class Pair:
    """A query, the document it belongs to, and where both come from."""

    query: str
    document: str
    name: str
    package: str

    @property
    def key(self) -> str:
        """What decides the pair's place in the splits: its text alone."""
        return f"{self.query}\n{self.document}"


@dataclass(frozen=True, slots=True)
class Cut:
    """A docstring's summary and its body without it, normalised and at most `LIMIT` long; either may be empty."""

    summary: str
    body: str
    name: str
    package: str


def cut(docstrings: Sequence[Docstring], progress: Progress) -> list[Cut]:
    """Cut docstrings in two. It takes minutes of a hundred thousand: once for all that is made of them."""
    found = []
    for docstring in progress.over(docstrings, len(docstrings), "cut docstrings"):
        summary, body = split_summary(docstring.text)
        summary = shorten(summary, LIMIT)
        found.append(Cut(summary, shorten(remove_phrase(body, summary), LIMIT), docstring.name, docstring.package))
    return found


def pairs_of(cuts: Iterable[Cut]) -> list[Pair]:
    """Pair all docstrings with a summary and a body; each query and each document occurs once, the first name's.

    Args:
        cuts: in the order of preference.
    """
    queries: set[str] = set()
    documents: set[str] = set()
    pairs = []
    for each in cuts:
        if each.summary.lower() in queries or each.body.lower() in documents:
            continue
        if not usable(each.summary, LEAST_QUERY) or not usable(each.body, LEAST_DOCUMENT):
            continue
        queries.add(each.summary.lower())
        documents.add(each.body.lower())
        pairs.append(Pair(each.summary, each.body, each.name, each.package))
    return pairs


def unalike(pairs: Sequence[Pair], seed: int, progress: Progress, first: Sequence[str] = ()) -> list[Pair]:
    """One pair of every group of near-duplicates (by query or by document), so that each query has one right answer.

    Args:
        pairs: to be thinned.
        seed: decides which pair of a group stays.
        progress: told while pairs are compared.
        first: packages that are preferred.

    Returns:
        The remaining pairs, preferred packages first, otherwise in hash order.
    """
    preferred = frozenset(first)
    ordered = in_hash_order(pairs, lambda pair: pair.key, seed)
    ordered.sort(key=lambda pair: pair.package not in preferred)
    texts = [pair.query for pair in ordered] + [pair.document for pair in ordered]
    alike, _ = similar_pairs(texts, texts, progress.tick)
    alike = alike[alike[:, 0] != alike[:, 1]] % len(ordered)  # query i and document i are the same item
    group = clusters(len(ordered), alike)
    return [pair for index, pair in enumerate(ordered) if group[index] == index]


def units_of(pairs: Iterable[Pair], cuts: Sequence[Cut], least: int, progress: Progress) -> list[tuple[str, ...]]:
    """Pairs of summary and body, and texts without another half; no text occurs twice, whatever its case.

    Args:
        pairs: of the same docstrings as `cuts`.
        cuts: in the order of preference.
        least: characters that a text has at least.
        progress: told how many docstrings have been looked through.
    """
    seen: set[str] = set()
    units: list[tuple[str, ...]] = []

    def take(*texts: str) -> None:
        new = [text for text in texts if text.lower() not in seen and usable(text, least)]
        seen.update(text.lower() for text in new)
        if new:
            units.append(tuple(new))

    for pair in pairs:
        take(pair.query, pair.document)
    for each in progress.over(cuts, len(cuts), "docstrings with texts to learn from"):
        take(each.summary)
        take(each.body)
    return units


def grouped(
    units: Sequence[tuple[str, ...]], held_out: Sequence[str], limit: int | None, progress: Progress
) -> dict[str, list[Any]]:
    """Rows to learn from, without what equals, or nearly equals, a held-out text.

    Returns:
        Columns `text` and `group`: a summary and its body have one number; null where the other half is not there.
    """
    texts: list[str] = []
    groups: list[int | None] = []
    at_once = max(1, len(units) if limit is None else limit)  # a subset needs no more comparisons than it has rows
    for start in range(0, len(units), at_once):
        part = units[start : start + at_once]
        left = set(unlike_held_out([text for unit in part for text in unit], held_out, progress))
        for unit in part:
            kept = [text for text in unit if text in left]
            groups += [len(texts) if len(kept) > 1 else None] * len(kept)
            texts += kept
        if limit is not None and len(texts) >= limit:
            break
    return {"text": texts[:limit], "group": groups[:limit]}


def unlike_held_out(texts: Sequence[str], held_out: Sequence[str], progress: Progress) -> list[str]:
    """Drop the texts that equal, or nearly equal, a held-out one."""
    alike, _ = similar_pairs(held_out, texts, progress.tick)
    dropped = set(alike[:, 1].tolist())
    return [text for index, text in enumerate(texts) if index not in dropped]


def columns(pairs: Sequence[Pair]) -> Mapping[str, Sequence[str]]:
    """Turn pairs into the columns of a table."""
    return {
        "query": [pair.query for pair in pairs],
        "document": [pair.document for pair in pairs],
        "name": [pair.name for pair in pairs],
        "package": [pair.package for pair in pairs],
    }

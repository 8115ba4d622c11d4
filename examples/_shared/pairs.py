"""Search pairs: a docstring's summary asks, its body is what has to be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .docstrings import Docstring
from .neighbours import clusters, similar_pairs
from .progress import Progress
from .splits import in_hash_order
from .text import remove_phrase, shorten, split_summary, usable

__all__ = ["LIMIT", "Pair", "columns", "pairs_of", "unalike", "unlike_held_out"]

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


def pairs_of(docstrings: Iterable[Docstring]) -> list[Pair]:
    """Pair all docstrings with a summary and a body; each query and each document occurs once, the first name's.

    Args:
        docstrings: in the order of preference.
    """
    queries: set[str] = set()
    documents: set[str] = set()
    pairs = []
    for docstring in docstrings:
        query, body = split_summary(docstring.text)
        query = shorten(query, LIMIT)
        document = shorten(remove_phrase(body, query), LIMIT)
        if not usable(query, LEAST_QUERY) or not usable(document, LEAST_DOCUMENT):
            continue
        if query.lower() in queries or document.lower() in documents:
            continue
        queries.add(query.lower())
        documents.add(document.lower())
        pairs.append(Pair(query, document, docstring.name, docstring.package))
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
    alike, _ = similar_pairs(texts, texts, progress)
    alike = alike[alike[:, 0] != alike[:, 1]] % len(ordered)  # query i and document i are the same item
    group = clusters(len(ordered), alike)
    return [pair for index, pair in enumerate(ordered) if group[index] == index]


def unlike_held_out(texts: Sequence[str], held_out: Sequence[str], progress: Progress) -> list[str]:
    """Drop the texts that equal, or nearly equal, a held-out one."""
    alike, _ = similar_pairs(held_out, texts, progress)
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

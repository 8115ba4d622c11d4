"""Topics: the module or package that a docstring of the standard library comes from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stillhouse.passes.sources.neighbours import clusters, similar_pairs

from .docstrings import Docstring
from .progress import Progress
from .splits import deal, fraction, in_hash_order
from .text import mask_word, normalise, shorten, usable

__all__ = ["LEAST_PER_CLASS", "LEAST_TEXT", "Topic", "few_per_class", "fold_of", "labelled", "topics_of"]

LEAST_TEXT, LEAST_PER_CLASS, LIMIT = 20, 50, 2_000


@dataclass(frozen=True)
class Topic:
    """A text, its class name masked, and the class."""

    text: str
    label: str


def topics_of(docstrings: Iterable[Docstring]) -> list[Topic]:
    """One item per distinct text; a text that stands under several labels is dropped.

    The module's own name is masked as it is written and without its leading underscore.
    """
    labels: dict[str, set[str]] = defaultdict(set)
    texts: dict[str, str] = {}
    for docstring in docstrings:
        masked = normalise(docstring.text)
        for word in (docstring.package, docstring.package.strip("_")):  # in this order: the longer name first
            masked = mask_word(masked, word)
        masked = shorten(masked, LIMIT)
        if usable(masked, LEAST_TEXT):
            labels[masked.lower()].add(docstring.package)
            texts.setdefault(masked.lower(), masked)
    return [Topic(texts[key], next(iter(found))) for key, found in labels.items() if len(found) == 1]


def labelled(topics: Sequence[Topic], least: int = LEAST_PER_CLASS) -> list[Topic]:
    """Keep the topics of the classes that have at least `least` texts."""
    counts: dict[str, int] = defaultdict(int)
    for topic in topics:
        counts[topic.label] += 1
    return [topic for topic in topics if counts[topic.label] >= least]


def fold_of(
    topics: Sequence[Topic], folds: int, tested: int, shares: Mapping[str, float], seed: int, progress: Progress
) -> list[str]:
    """Where each topic belongs: `test`, one of `shares`, or `train`; near-duplicates share a place, classes are spread evenly.

    Args:
        topics: all of them.
        folds: in how many parts the texts are cut; each is `test` once.
        tested: the part that is `test` now.
        shares: part → share of the texts that are not tested.
        seed: of the order.
        progress: told while texts are compared.
    """
    texts = [topic.text for topic in topics]
    alike, _ = similar_pairs(texts, texts, progress.tick)
    group = clusters(len(topics), alike)
    members: dict[int, list[int]] = defaultdict(list)
    for index, first in enumerate(group.tolist()):
        members[first].append(index)
    by_class: dict[str, list[int]] = defaultdict(list)
    for first in members:  # a group is dealt with the class of its first member
        by_class[topics[first].label].append(first)
    places = ["train"] * len(topics)
    for label in sorted(by_class):
        ordered = in_hash_order(by_class[label], lambda index: topics[index].text, seed)
        rest = [first for position, first in enumerate(ordered) if position % folds != tested]
        # Shuffled again, by fold: the same text must not always stand in the gate.
        rest.sort(key=lambda index: fraction(f"{tested} {topics[index].text}", seed + 1))
        for place, part in {"test": ordered[tested::folds], **deal(rest, shares)}.items():
            for first in part:
                for index in members[first]:
                    places[index] = place
    return places


def few_per_class(topics: Sequence[Topic], count: int, seed: int) -> dict[str, list[Topic]]:
    """At most `count` topics of every class, in hash order, so that the first five of ten are the five."""
    chosen: dict[str, list[Topic]] = defaultdict(list)
    for topic in in_hash_order(topics, lambda topic: topic.text, seed + 2):
        if len(chosen[topic.label]) < count:
            chosen[topic.label].append(topic)
    return dict(chosen)

"""Words that stand near each other among the teacher's token vectors."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import torch

from stillhouse.errors import SpecError
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Progress
from stillhouse.passes.distill.augment.texts import WORD
from stillhouse.passes.models.artifact import load

__all__ = ["mask_token", "neighbours_of"]

_WORDS: Final = 20_000
"""The most frequent words alone: the others are names and misspellings, and every pair is compared."""
_NEAR: Final = 5
_LEAST: Final = 0.5
"""Cosine below which a neighbour is no synonym, only the least strange."""
_AT_ONCE: Final = 2_048
_FIELD: Final = "spec.distill.augment.operations[].kind"


def neighbours_of(teacher: Path, texts: Iterable[str], progress: Progress) -> dict[str, list[str]]:
    """Return word → its nearest ones among the words of `texts`, at most five, none farther than a cosine of 0.5.

    A word's vector is the mean of its tokens' in the teacher's own table; both are words that the texts hold twice at least, so
    that no name or misspelling is put in. The table's mean is taken off first: token vectors share a direction that says nothing.

    Raises:
        SpecError: the teacher shows no token vectors.
    """
    from tokenizers import Tokenizer

    vectors = load(teacher, role="teacher").token_vectors
    if vectors is None:
        raise SpecError(
            "the teacher shows no token vectors, so no word has neighbours",
            field=_FIELD,
            found="synonym, and a teacher built by a factory",
            allowed="mask, swap, delete",
            fix="leave synonym out",
        )
    counts = Counter(word.lower() for text in texts for word in WORD.findall(text))
    # Ties by the word itself: Counter keeps the order of the texts, which says nothing.
    frequent = sorted((word for word, rows in counts.items() if rows > 1), key=lambda word: (-counts[word], word))[:_WORDS]
    if len(frequent) < 2:
        return {}
    tokenizer = Tokenizer.from_file(str(teacher / TOKENIZER_FILE))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(frequent, add_special_tokens=False)]
    words = [word for word, tokens in zip(frequent, ids, strict=True) if tokens]
    ids = [tokens for tokens in ids if tokens]
    table = vectors.detach().float()
    flat = torch.tensor([token for tokens in ids for token in tokens])
    starts = torch.tensor(np.cumsum([0, *(len(tokens) for tokens in ids[:-1])]))
    means = torch.nn.functional.embedding_bag(flat, table - table.mean(0), starts, mode="mean")
    unit = torch.nn.functional.normalize(means, dim=1)
    found: dict[str, list[str]] = {}
    for first in range(0, len(words), _AT_ONCE):
        closeness = unit[first : first + _AT_ONCE] @ unit.T
        rows = torch.arange(len(closeness))
        closeness[rows, first + rows] = -1.0
        best = closeness.topk(min(_NEAR, len(words) - 1), dim=1)
        for row, (values, places) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            near = [words[place] for value, place in zip(values, places, strict=True) if value >= _LEAST]
            if near:
                found[words[first + row]] = near
        progress.update(min(first + _AT_ONCE, len(words)), len(words), "words", "looking for neighbours")
    return found


def mask_token(teacher: Path) -> str:
    """Return the text that the teacher's tokenizer reads as its mask.

    Raises:
        SpecError: it has none.
    """
    tokenizer = json.loads((teacher / TOKENIZER_FILE).read_text(encoding="utf-8"))
    tokens = [str(each["content"]) for each in tokenizer.get("added_tokens", ()) if each.get("special")]
    found = next((token for token in tokens if token.strip("[]<>|").lower() == "mask"), None)
    if found is None:
        raise SpecError(
            "the teacher's tokenizer has no mask",
            field=_FIELD,
            found=f"mask, and special tokens {', '.join(tokens[:8]) or 'none'}",
            allowed="synonym, swap, delete",
            fix="write delete in its place",
        )
    return found

"""Trimming a tokenizer.json to the tokens that the data uses: most of a small student is embeddings. JSON only, no torch.

What must stay, so that no text becomes unknown that was known before: special and added tokens, the unknown token, bytes
of a byte fallback, and every piece of a single character, from which any word can still be put together.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from stillhouse.errors import SourceError, SpecError
from stillhouse.planning.shapes import TOO_SMALL, at_least

__all__ = ["Trimmed", "check_size", "fewest", "trim"]

_BYTE: Final = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_FIELD: Final = "spec.distill.student.vocabulary.maxSize"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A smaller tokenizer: its JSON, and the old id of every new one, ascending (rows of the embeddings to keep)."""

    tokenizer: dict[str, Any]
    kept: tuple[int, ...]

    @property
    def new_ids(self) -> dict[int, int]:
        """Return old id → new id."""
        return {old: new for new, old in enumerate(self.kept)}


def trim(tokenizer: dict[str, Any], counts: Sequence[int], size: int) -> Trimmed:
    """Keep at most `size` tokens: those that must stay, then the most frequent ones.

    Args:
        tokenizer: parsed tokenizer.json of the `tokenizers` library.
        counts: how often each id occurs in the data; ids beyond its end count 0.
        size: tokens to keep.

    Raises:
        SpecError: `size` is smaller than what must stay.
        SourceError: a kind of tokenizer that cannot be trimmed.
    """
    chosen = _chosen(tokenizer, counts, size)
    kept = tuple(sorted(chosen))
    _check_size(size, len(kept))
    return Trimmed(_rewritten(tokenizer, {old: new for new, old in enumerate(kept)}), kept)


def fewest(tokenizer: dict[str, Any]) -> int:
    """Return how many tokens no trimming may take.

    Raises:
        SourceError: a kind of tokenizer that cannot be trimmed.
    """
    return len(_chosen(tokenizer, (), 0))


def check_size(tokenizer: dict[str, Any], size: int) -> None:
    """Refuse what `trim` refuses, told without the data.

    Raises:
        SpecError: `size` is smaller than what must stay.
        SourceError: a kind of tokenizer that cannot be trimmed.
    """
    _check_size(size, len(_chosen(tokenizer, (), size)))


def _check_size(size: int, least: int) -> None:
    if least > size:
        raise SpecError(
            TOO_SMALL,
            field=_FIELD,
            found=str(size),
            allowed=at_least(least),
            fix=f"maxSize: {least}",
        )


def _chosen(tokenizer: dict[str, Any], counts: Sequence[int], size: int) -> set[int]:
    """Return the ids that stay where `size` tokens are wanted: more of them where more must stay."""
    model = tokenizer.get("model", {})
    kind = model.get("type")
    ways: dict[str, Callable[[dict[str, Any], Sequence[int], int, set[int]], set[int]]] = {
        "WordPiece": _wordpiece,
        "WordLevel": _wordpiece,
        "BPE": _bpe,
        "Unigram": _unigram,
    }
    if kind not in ways:
        raise SourceError(
            "this kind of tokenizer cannot be trimmed",
            field=_FIELD,
            found=str(kind),
            allowed=", ".join(ways),
            fix="leave vocabulary out: the student keeps the teacher's",
        )
    added = {int(token["id"]) for token in tokenizer.get("added_tokens", [])}
    tokens = _ids(model)
    everything = added | set(tokens.values())
    return everything if size >= len(everything) else ways[kind](model, counts, size, added)


def _ids(model: dict[str, Any]) -> dict[str, int]:
    if model.get("type") == "Unigram":
        return {piece: index for index, (piece, _) in enumerate(model["vocab"])}
    return {str(token): int(number) for token, number in model["vocab"].items()}


def _count(counts: Sequence[int], number: int) -> int:
    return int(counts[number]) if number < len(counts) else 0


def _by_count(numbers: set[int], counts: Sequence[int]) -> list[int]:
    # Equals in the order of their ids: a WordPiece vocabulary is written by frequency, so the id is a fair tie-break.
    return sorted((number for number in numbers if _count(counts, number)), key=lambda number: (-_count(counts, number), number))


def _wordpiece(model: dict[str, Any], counts: Sequence[int], size: int, added: set[int]) -> set[int]:
    tokens = _ids(model)
    prefix = model.get("continuing_subword_prefix") or ""
    chosen = set(added) | {tokens[model["unk_token"]]}
    if model["type"] == "WordPiece":
        chosen |= {number for token, number in tokens.items() if len(token.removeprefix(prefix) or token) == 1}
    for number in _by_count(set(tokens.values()) - chosen, counts):
        if len(chosen) >= size:
            break
        chosen.add(number)
    return chosen


def _bpe(model: dict[str, Any], counts: Sequence[int], size: int, added: set[int]) -> set[int]:
    tokens = _ids(model)
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    chosen = set(added)
    if model.get("unk_token") is not None:
        chosen.add(tokens[model["unk_token"]])
    for token, number in tokens.items():
        if len(token.removeprefix(prefix).removesuffix(suffix) or token) == 1 or _BYTE.fullmatch(token):
            chosen.add(number)
    parts: dict[int, tuple[int, int]] = {}
    for left, right in _merges(model):
        whole = tokens.get(left + right.removeprefix(prefix))
        if whole is not None:
            parts.setdefault(whole, (tokens[left], tokens[right]))
    for number in _by_count(set(tokens.values()) - chosen, counts):
        # A merged token is reached through its parts only, so they come with it, or it does not come at all.
        wanted, pending = set[int](), [number]
        while pending:
            token_id = pending.pop()
            if token_id in chosen or token_id in wanted:
                continue
            wanted.add(token_id)
            pending.extend(parts.get(token_id, ()))
        if len(chosen) + len(wanted) <= size:
            chosen |= wanted
    return chosen


def _unigram(model: dict[str, Any], counts: Sequence[int], size: int, added: set[int]) -> set[int]:
    chosen = set(added)
    if model.get("unk_id") is not None:
        chosen.add(int(model["unk_id"]))
    for number, (piece, _) in enumerate(model["vocab"]):
        if len(piece) == 1 or _BYTE.fullmatch(piece):
            chosen.add(number)
    for number in _by_count(set(range(len(model["vocab"]))) - chosen, counts):
        if len(chosen) >= size:
            break
        chosen.add(number)
    return chosen


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the merges in order; older files write them as one string with a space."""
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(str(left), str(right)) for left, right in pairs]


def _rewritten(tokenizer: dict[str, Any], new: dict[int, int]) -> dict[str, Any]:
    out = copy.deepcopy(tokenizer)
    model = out["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [entry for index, entry in enumerate(model["vocab"]) if index in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[int(model["unk_id"])]
    else:
        kept = {token: new[number] for token, number in model["vocab"].items() if number in new}
        model["vocab"] = dict(sorted(kept.items(), key=lambda item: item[1]))
    if model["type"] == "BPE":
        prefix = model.get("continuing_subword_prefix") or ""
        tokens = model["vocab"]
        model["merges"] = [
            [left, right]
            for left, right in _merges(model)
            if left in tokens and right in tokens and left + right.removeprefix(prefix) in tokens
        ]
    out["added_tokens"] = [{**token, "id": new[int(token["id"])]} for token in out.get("added_tokens", [])]
    if out.get("padding"):
        out["padding"]["pad_id"] = new.get(int(out["padding"]["pad_id"]), 0)
    if out.get("post_processor"):
        _renumber(out["post_processor"], new)
    return out


def _renumber(processor: dict[str, Any], new: dict[int, int]) -> None:
    """Put new ids into a post-processor (the part that adds [CLS] and the like)."""
    kind = processor.get("type")
    if kind == "Sequence":
        for part in processor["processors"]:
            _renumber(part, new)
    elif kind in {"BertProcessing", "RobertaProcessing"}:
        for name in ("sep", "cls"):
            token, number = processor[name]
            processor[name] = [token, new[int(number)]]
    elif kind == "TemplateProcessing":
        for special in processor["special_tokens"].values():
            special["ids"] = [new[int(number)] for number in special["ids"]]

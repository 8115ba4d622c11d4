"""Texts to token ids, by the `tokenizers` library alone (no transformers)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stillhouse.errors import DataError, SourceError

__all__ = ["NOT_COUNTED", "TOKENIZER_FILE", "EncodedTexts", "TextEncoder", "decode_utf8"]

TOKENIZER_FILE = "tokenizer.json"
NOT_COUNTED = -1
_FIX = "build the model again: still rebuild NAME"
_CHARACTERS_A_TOKEN = 6
"""Of a text's beginning that is tried in place of the whole; English has 4 to 5. One that gives too few tokens is done anew."""


@dataclass(frozen=True, slots=True)
class EncodedTexts:
    """Token ids of a batch: `ids[i]` int list of `lengths[i]` tokens, special ones included; `cut[i]` tokens left out.

    `cut[i]` is `NOT_COUNTED` where nobody wanted to know.
    """

    ids: list[list[int]]
    lengths: list[int]
    cut: list[int]


class TextEncoder:
    """A tokenizer.json with truncation to `max_length` tokens (0: none) on the right and no padding."""

    def __init__(self, path: Path, max_length: int, digest: str = "") -> None:
        """Load the tokenizer. `digest`: of its file, as the model's signature has it; "" compares nothing.

        Raises:
            SourceError: the file is missing, is not a fast tokenizer's, or another one than the model was made with.
        """
        from tokenizers import Tokenizer

        try:
            content = path.read_bytes()
            self._tokenizer = Tokenizer.from_buffer(content)
        except BaseException as error:  # the library raises bare Exception, with the reason as its text, or panics
            if not isinstance(error, Exception) and not _is_panic(error):
                raise
            raise SourceError("the tokenizer is not readable", field=str(path), found=str(error), fix=_FIX) from error
        if digest and (found := f"sha256:{hashlib.sha256(content).hexdigest()}") != digest:
            raise SourceError(
                "the tokenizer is another one than the model was made with",
                field=str(path),
                found=found,
                allowed=digest,
                fix=_FIX,
            )
        self.max_length = max_length
        self._tokenizer.no_padding()
        if max_length > 0:
            # One special token at least must leave room for one of the text, else truncation is refused by the library.
            special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            if max_length <= special:
                raise SourceError(
                    "the longest text allowed holds no token beside the special ones",
                    field="max_length",
                    found=str(max_length),
                    allowed=f"more than {special}",
                    fix=_FIX,
                )
            self._tokenizer.enable_truncation(max_length, stride=0, strategy="longest_first", direction="right")
        else:
            self._tokenizer.no_truncation()
        self._enough = max_length * _CHARACTERS_A_TOKEN if max_length > 0 and _is_local(self._tokenizer) else 0
        """Characters after which the rest is left unread, where nobody wants it counted; 0: all are read."""

    @property
    def vocabulary_size(self) -> int:
        """Return the number of ids, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def ids_end(self) -> int:
        """What every id is below."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    def encode(self, texts: Sequence[str], *, count: bool = True) -> EncodedTexts:
        """Tokenise a batch. `count`: say how many tokens are left out, for which the whole of a long text must be read.

        Raises:
            DataError: an element is not text, or holds a lone surrogate (it has no UTF-8 form).
        """
        try:
            if not count and self._enough:
                ids = self._beginnings(list(texts))
                return EncodedTexts(ids, [len(row) for row in ids], [NOT_COUNTED] * len(ids))
            # The fast variant leaves out character offsets, which nothing here needs (a fifth of the time).
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        except TypeError:
            raise _not_text(texts) from None
        except BaseException as error:
            if _is_panic(error):
                raise RuntimeError(f"the tokenizer panicked: {error}") from error
            raise
        ids = [encoding.ids for encoding in encodings]
        lengths = [len(row) for row in ids]
        limit = self.max_length
        cut = [_tokens_left_out(encoding) if length == limit else 0 for encoding, length in zip(encodings, lengths, strict=True)]
        return EncodedTexts(ids, lengths, cut)

    def _beginnings(self, texts: list[str]) -> list[list[int]]:
        """Return the same ids without reading what will be cut off: texts end at a space, behind as many characters as suffice.

        A third of the longest docstrings' time goes into what nobody sees.
        """
        enough, cut = self._enough, []
        some = list(texts)
        for row, text in enumerate(texts):
            if len(text) > enough and (end := text.rfind(" ", 0, enough)) > 0:
                some[row] = text[:end]
                cut.append(row)
        ids: list[list[int]] = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(some)]
        again = [row for row in cut if len(ids[row]) < self.max_length]
        if again:
            for row, encoding in zip(again, self._tokenizer.encode_batch_fast([texts[row] for row in again]), strict=True):
                ids[row] = encoding.ids
        return ids


def _is_panic(error: BaseException) -> bool:
    """Tell whether the library panicked: what it raises then is no `Exception`, and would take more with it than its request."""
    return type(error).__name__ == "PanicException"


def decode_utf8(values: Sequence[bytes], field: str) -> list[str]:
    """Decode the elements of a BYTES tensor.

    Args:
        values: UTF-8 bytes, one element per row.
        field: name of the tensor, for the message.

    Raises:
        DataError: an element is not UTF-8; the message names tensor, row and byte.
    """
    texts = []
    for row, value in enumerate(values):
        try:
            texts.append(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(
                "the text is not UTF-8",
                field=f"{field}[{row}]",
                found=f"byte 0x{value[error.start]:02x} at position {error.start}",
                allowed="UTF-8",
                fix="encode the text: text.encode('utf-8')",
            ) from None
    return texts


def _tokens_left_out(encoding: object) -> int:
    """Count the tokens of the text (no special ones) behind the cut."""
    overflowing = encoding.overflowing  # type: ignore[attr-defined]
    return sum(len(part) - sum(part.special_tokens_mask) for part in overflowing)


def _not_text(texts: Sequence[object]) -> DataError:
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            return DataError("not a text", field=f"TEXT[{row}]", found=type(text).__name__, allowed="a string")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return DataError(
                "the text holds a lone surrogate, which has no UTF-8 form",
                field=f"TEXT[{row}]",
                found=f"U+{ord(text[error.start]):04X} at position {error.start}",
                allowed="valid Unicode",
                fix="decode the source with the right encoding, or with errors='replace'",
            )
    return DataError("not a list of texts", field="TEXT", allowed="strings")


_LOCAL_NORMALIZERS = frozenset({"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents"})
_LOCAL_SPLITTERS = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit"})


def _is_local(tokenizer: Any) -> bool:
    """Tell whether what stands before a space has the same tokens whatever stands behind it.

    So it is where the text is split at spaces before anything else is done with it, no normaliser looks across one, and no added
    token holds one: all of BERT's family. Of others we do not claim it.
    """
    parts = json.loads(tokenizer.to_str())
    normalizer, splitter = parts.get("normalizer"), parts.get("pre_tokenizer")
    steps = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    return (
        splitter is not None
        and splitter["type"] in _LOCAL_SPLITTERS
        and all(step["type"] in _LOCAL_NORMALIZERS for step in steps)
        and not any(" " in each["content"] for each in parts.get("added_tokens", ()))
    )

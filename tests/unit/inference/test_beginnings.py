"""Of a long text the beginning is read and no more, where nobody wants to know how much is cut off: the tokens are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from stillhouse.inference.text import NOT_COUNTED, TextEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PIECES = ["a", "b", "ab", "##a", "##b", "##ab", "-", "##-", "e", "##e", "水", "1", "##1"]
LENGTH = 6


def written(folder: Path, tokenizer: Any, special: bool = True) -> Path:
    if special:
        tokenizer.add_special_tokens(SPECIAL)
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *PIECES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return TextEncoder(written(tmp_path_factory.mktemp("bert"), tokenizer), LENGTH)


PARTS = st.sampled_from(
    [" ", "a", "B", "ab", "é", "\u0301", "水", "-", "[SEP]", "[CLS", "\n", "\u00a0", "\u200d", "\u3000", "1", "x"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PARTS, max_size=90).map("".join), min_size=1, max_size=4))
@example(["a" * 200 + " a b a b"])
@example([" \u0301" * 60, "a " * 17 + " \u0301\u0301 b" * 9])
@example(["[SEP] " * 30, " " * 100 + "a b"])
def test_the_tokens_are_those_of_the_whole_text(bert: TextEncoder, texts: list[str]) -> None:
    whole, part = bert.encode(texts), bert.encode(texts, count=False)
    assert part.ids == whole.ids
    assert part.lengths == whole.lengths
    assert part.cut == [NOT_COUNTED] * len(texts)


def test_what_lies_behind_is_not_read(bert: TextEncoder) -> None:
    """The point of it; else the test above would hold of an encoder that reads everything."""
    read: list[int] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(bert._tokenizer, name)

        def encode_batch_fast(self, texts: list[str]) -> Any:
            read.extend(map(len, texts))
            return bert._tokenizer.encode_batch_fast(texts)

    there = TextEncoder.__new__(TextEncoder)
    there.__dict__.update(bert.__dict__ | {"_tokenizer": Watched()})
    assert there.encode(["a b " * 1000], count=False).lengths == [LENGTH]
    assert sum(read) < 50


def test_nothing_is_claimed_of_a_tokenizer_whose_tokens_span_spaces(tmp_path: Path) -> None:
    """`▁aaa▁bbb` is one token here: what stands before a space depends on what follows."""
    pieces = [("<unk>", -9.0), ("▁", -2.0), ("▁dd", -1.0), ("▁aaa▁bbb", -0.1), ("▁aaa", -1.0), ("▁bbb", -1.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    encoder = TextEncoder(written(tmp_path, tokenizer, special=False), LENGTH)
    texts = ["dd " * shift + "aaa bbb " * 20 for shift in range(6)]
    assert encoder.encode(texts, count=False).ids == encoder.encode(texts).ids


def test_an_added_token_with_a_space_in_it_is_not_cut_in_two(tmp_path: Path) -> None:
    vocabulary = {piece: number for number, piece in enumerate([*SPECIAL, *PIECES])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens(["a b a b"])
    encoder = TextEncoder(written(tmp_path, tokenizer), 20)
    texts = ["-" * shift + " a b a b" * 40 for shift in range(9)]
    assert encoder.encode(texts, count=False).ids == encoder.encode(texts).ids

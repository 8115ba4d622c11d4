"""Trimming a tokenizer, judged by the tokenizers library itself."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.artifacts import WORDS, wordpiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from stillhouse.errors import SourceError, SpecError
from stillhouse.passes.distill.vocabulary import trim

CORPUS = [" ".join(WORDS[start : start + 9]) for start in range(0, len(WORDS), 3)] * 3


def loaded(data):
    return Tokenizer.from_str(json.dumps(data))


def counted(data, texts):
    tokenizer = loaded(data)
    counts = [0] * tokenizer.get_vocab_size()
    for text in texts:
        for number in tokenizer.encode(text).ids:
            counts[number] += 1
    return counts


def byte_pairs():
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return json.loads(tokenizer.to_str())


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<pad>", "<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())


def test_wordpiece_keeps_what_is_frequent_and_cuts_the_rest_into_letters():
    data = wordpiece()
    texts = ["return the file", "return the list", "return the queue"]
    counts = counted(data, texts)
    must = 5 + 2 * len({letter for word in WORDS for letter in word})
    trimmed = trim(data, counts, must + 2)
    tokenizer = loaded(trimmed.tokenizer)
    assert len(trimmed.kept) == must + 2 == tokenizer.get_vocab_size()
    assert tokenizer.encode("return the").tokens == ["[CLS]", "return", "the", "[SEP]"]
    assert tokenizer.encode("file").tokens == ["[CLS]", "f", "##i", "##l", "##e", "[SEP]"]
    assert tokenizer.encode("§").tokens == ["[CLS]", "[UNK]", "[SEP]"]


def test_ids_of_special_tokens_move_wherever_they_are_written():
    data = wordpiece()
    # Special tokens at the end of the table, so that trimming moves them.
    tokens = list(data["model"]["vocab"])
    order = tokens[5:] + tokens[:5]
    data["model"]["vocab"] = {token: number for number, token in enumerate(order)}
    for token in data["added_tokens"]:
        token["id"] = data["model"]["vocab"][token["content"]]
    for token, special in data["post_processor"]["special_tokens"].items():
        special["ids"] = [data["model"]["vocab"][token]]
    trimmed = trim(data, counted(data, ["return the file"]), 70)
    encoding = loaded(trimmed.tokenizer).encode("return the file")
    assert encoding.tokens == ["[CLS]", "return", "the", "file", "[SEP]"]
    assert [trimmed.kept[number] for number in encoding.ids] == loaded(data).encode("return the file").ids


@settings(max_examples=30, deadline=None)
@given(size=st.integers(64, 110), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_no_wordpiece_becomes_unknown_and_the_text_comes_back(size, words):
    data = wordpiece()
    text = " ".join(words)
    tokenizer = loaded(trim(data, counted(data, CORPUS), size).tokenizer)
    encoding = tokenizer.encode(text)
    assert "[UNK]" not in encoding.tokens
    assert tokenizer.decode(encoding.ids).split() == words


@settings(max_examples=20, deadline=None)
@given(size=st.integers(259, 400), text=st.text(max_size=40))
def test_byte_pairs_lose_no_text_and_their_merges_stay_reachable(size, text):
    data = byte_pairs()
    trimmed = trim(data, counted(data, CORPUS), size)
    tokenizer = loaded(trimmed.tokenizer)
    assert tokenizer.get_vocab_size() <= size
    encoding = tokenizer.encode(text)
    assert tokenizer.decode(encoding.ids, skip_special_tokens=True) == text
    assert encoding.tokens[0] == "<s>" and encoding.tokens[-1] == "</s>"


def test_kept_byte_pairs_are_used():
    data = byte_pairs()
    counts = counted(data, CORPUS)
    trimmed = trim(data, counts, 300)
    old_to_new = trimmed.new_ids
    new_counts = counted(trimmed.tokenizer, CORPUS)
    frequent = max(range(259, len(counts)), key=counts.__getitem__)
    assert new_counts[old_to_new[frequent]] >= counts[frequent]


@settings(max_examples=20, deadline=None)
@given(size=st.integers(60, 120), words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
def test_unigram_keeps_texts_known(size, words):
    data = unigram()
    before = loaded(data).encode(" ".join(words))
    tokenizer = loaded(trim(data, counted(data, CORPUS), size).tokenizer)
    after = tokenizer.encode(" ".join(words))
    assert ("<unk>" in after.tokens) == ("<unk>" in before.tokens)
    assert tokenizer.decode(after.ids) == loaded(data).decode(before.ids)


def test_a_size_that_holds_everything_changes_nothing():
    data = wordpiece()
    trimmed = trim(data, [], 10_000)
    assert trimmed.tokenizer == data
    assert trimmed.kept == tuple(range(len(data["model"]["vocab"])))


def test_too_small_a_size_says_what_is_possible():
    with pytest.raises(SpecError) as caught:
        trim(wordpiece(), [], 10)
    assert "maxSize" in caught.value.problem.field
    assert "at least" in caught.value.problem.allowed


def test_an_unknown_kind_is_refused():
    with pytest.raises(SourceError, match="cannot be trimmed"):
        trim({"model": {"type": "Oracle"}}, [], 300)

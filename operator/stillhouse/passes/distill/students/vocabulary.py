"""The student's vocabulary: the teacher's tokenizer, how often the data uses each token, what is left after trimming."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stillhouse.digests import file_digest
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Context
from stillhouse.passes.distill.encoded import Texts, encode_texts
from stillhouse.passes.distill.fit import ask_sample, fit_projection, sample_rows
from stillhouse.passes.distill.rows import Rows
from stillhouse.passes.distill.students.config import StudentConfig
from stillhouse.passes.distill.students.facts import VocabularyFacts
from stillhouse.passes.distill.vocabulary import Trimmed, trim
from stillhouse.passes.models.network import Network
from stillhouse.passes.sources.tokenizer import vocabulary_rows

__all__ = ["StudentVocabulary"]

_FIT_TOKENS = 64  # a bag of words is settled by a text's beginning; longer ones cost the teacher time


class StudentVocabulary:
    """The vocabulary and the data that it was judged by.

    `texts` are the training texts, `folder` holds the teacher's tokenizer, `tokenizer` is the student's tokenizer.json
    (the teacher's own when nothing was trimmed). `kept` int64 [tokens] are the teacher's ids of the student's tokens,
    `counts` int64 [tokens] how often the data has each, `special` bool [tokens]; `around` the teacher's ids before and
    behind a text.
    """

    def __init__(
        self,
        teacher: Network,
        folder: Path,
        rows: Rows,
        config: StudentConfig,
        ctx: Context,
        answers: dict[int, Tensor] | None = None,
    ) -> None:
        """`answers`: what the teacher said before of these rows' sample, by where it was cut; new ones are added."""
        self._teacher = teacher
        self._answers = answers if answers is not None else {}
        self._limit = config.max_length or teacher.signature.max_length
        self._progress = ctx.progress
        self._before = _rows_of(teacher, folder)
        self.texts = rows.training_texts()
        self.folder = folder
        self.tokenizer = folder / TOKENIZER_FILE
        known: dict[str, Any] = json.loads(self.tokenizer.read_text(encoding="utf-8"))
        encoded = encode_texts(self.texts, folder, teacher.signature, self._limit, ctx.progress)
        counts = np.bincount(encoded.ids, minlength=self._before)
        self._tokens = len(encoded.ids)
        self._unknown = _unknown_share(counts, known)
        self._trimmed: Trimmed | None = None
        if config.vocabulary_size is not None and config.vocabulary_size < self._before:
            self._trimmed = trim(known, counts.tolist(), config.vocabulary_size)
            self.tokenizer = ctx.scratch / TOKENIZER_FILE
            self.tokenizer.write_text(json.dumps(self._trimmed.tokenizer, ensure_ascii=False), encoding="utf-8")
        # Whole vocabularies keep every row of the table: some models pad it beyond the last token.
        self.kept = torch.tensor(self._trimmed.kept if self._trimmed else range(self._before), dtype=torch.int64)
        self.counts = torch.from_numpy(counts)[self.kept]
        self.around = _special_tokens(self.folder, encoded)
        special = {int(token["id"]) for token in known.get("added_tokens", []) if token.get("special")}
        self.special = torch.tensor([number in special for number in self.kept.tolist()])

    def new_id(self, old: int) -> int:
        """Return where an id of the teacher's went; 0 when it is gone."""
        return old if self._trimmed is None else self._trimmed.new_ids.get(old, 0)

    def signature(self, limit: int) -> Signature:
        """Return the teacher's signature with this vocabulary, cut to `limit` tokens."""
        theirs = self._teacher.signature
        pad_id, digest = self.new_id(theirs.pad_id), file_digest(self.tokenizer)
        return dataclasses.replace(theirs, max_length=limit, pad_id=pad_id, tokenizer_digest=digest)

    def fit(self, network: Network) -> float:
        """Fit the student's projection to the teacher's answers about a sample of the texts (see `fit.py`).

        Return the mean cosine to the teacher on texts that were left out.
        """
        sample = [self.texts[row] for row in sample_rows(len(self.texts))]
        limit = min(self._limit, _FIT_TOKENS)
        mine = encode_texts(sample, self.tokenizer.parent, network.signature, limit)
        if limit not in self._answers:
            theirs = encode_texts(sample, self.folder, self._teacher.signature, limit)
            self._answers[limit] = ask_sample(self._teacher, theirs, self._progress)
        return fit_projection(network, mine, self._answers[limit], self._progress)

    def facts(self, signature: Signature) -> VocabularyFacts:
        """Return the figures; for a trimmed vocabulary the data is tokenised again, for the student's `signature`."""
        tokens, unknown = self._tokens, self._unknown
        if self._trimmed is not None:
            encoded = encode_texts(self.texts, self.tokenizer.parent, signature, self._limit, self._progress)
            tokens = len(encoded.ids)
            unknown = _unknown_share(np.bincount(encoded.ids, minlength=1), self._trimmed.tokenizer)
        return VocabularyFacts(self._before, len(self.kept), self._tokens, tokens, self._unknown, unknown)


def _rows_of(teacher: Network, folder: Path) -> int:
    """Return how many tokens the teacher's table has; of a factory's network, how many its tokenizer has."""
    if teacher.config is not None:
        return int(teacher.config.vocab_size)
    return vocabulary_rows(folder) if teacher.token_vectors is None else len(teacher.token_vectors)


def _unknown_share(counts: npt.NDArray[np.int64], tokenizer: dict[str, Any]) -> float:
    """Return the share of the data's tokens that stand for what the vocabulary lacks."""
    model = tokenizer["model"]
    number = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model.get("unk_token"))
    if number is None or number >= len(counts):
        return 0.0
    return round(float(counts[number]) / max(1, int(counts.sum())), 8)


def _special_tokens(folder: Path, encoded: Texts) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and behind a text."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()  # MiniLM's file pads every text to 128 tokens: the teacher read 126 of them around each token
    ids = list(tokenizer.encode("").ids)
    if not encoded.count:
        return ids[:1], ids[1:]
    # The empty text's special tokens stand around the text's own: what the first text begins with comes before.
    first = encoded.ids[encoded.starts[0] : encoded.starts[1]].tolist()
    before = 0
    while before < len(ids) and before < len(first) and first[before] == ids[before]:
        before += 1
    return ids[:before], ids[before:]

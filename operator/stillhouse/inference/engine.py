"""The model with everything around it, in one process: strings, images or features in, embeddings or probabilities out.

The Triton backend is a thin wrapper of this class, the benchmarks' in-process baseline and the passes that need answers
use it too: there is one implementation of tokenising, bucketing and post-processing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stillhouse.errors import DataError, SourceError
from stillhouse.inference.arrays import prepared
from stillhouse.inference.buckets import BucketPolicy, split
from stillhouse.inference.feed import run_feed, token_rows
from stillhouse.inference.postprocess import softmax
from stillhouse.inference.session import ModelSession
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, EncodedTexts, TextEncoder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Engine", "Provenance", "TextResult"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """How much of the text the model saw: texts in all, texts cut, tokens cut off (special ones not counted)."""

    texts: int
    truncated_texts: int
    truncated_tokens: int

    def to_json(self) -> dict[str, int]:
        """Return plain JSON data."""
        return {
            "texts": self.texts,
            "truncatedTexts": self.truncated_texts,
            "truncatedTokens": self.truncated_tokens,
        }


@dataclass(frozen=True, slots=True)
class TextResult:
    """Answers to a batch of texts: `values` float32 [n, dimension] or [n, labels]; `cut[i]` tokens cut off text i.

    `cut[i]` is `text.NOT_COUNTED` where nobody wanted to know.
    """

    values: npt.NDArray[np.float32]
    cut: list[int]

    @property
    def provenance(self) -> Provenance:
        """Sum up `cut`."""
        return Provenance(len(self.cut), sum(1 for tokens in self.cut if tokens), sum(self.cut))


class Engine:
    """A model folder (`model.onnx`, `signature.json`, `tokenizer.json` for texts), loaded and ready to answer.

    Methods may be called from several threads.
    """

    def __init__(self, folder: Path, threads: int = 1, *, buckets: BucketPolicy | None = None, apart: bool = False) -> None:
        """Load the model.

        Args:
            folder: an `onnx-model` artifact, or a version folder of a model repository.
            threads: ONNX Runtime's intra-op threads.
            buckets: what a run of the model costs; the default serves encoders of every size.
            apart: rows are run one by one where a row's answer would depend on those beside it (`ModelSession.scales_by_run`):
                what is decided by a row's confidence must not depend on who else asks.

        Raises:
            SourceError: a file is missing, damaged or contradicts the others.
            MissingPackages: the `serve` extra is not installed.
        """
        self.signature = Signature.read(folder)
        self.buckets = buckets or BucketPolicy()
        self._session = ModelSession(folder, self.signature, threads)
        self._apart = apart and self._session.scales_by_run()
        self._encoder: TextEncoder | None = None
        if self.signature.takes_texts:
            self._encoder = TextEncoder(folder / TOKENIZER_FILE, self.signature.max_length, self.signature.tokenizer_digest)

    @property
    def is_text(self) -> bool:
        """Return whether the model takes texts."""
        return self._encoder is not None

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 [n, dimension], L2-normalised rows.

        Raises:
            DataError: an element is not valid text, or the model is not a sentence embedding.
        """
        self._require("sentence-embedding")
        return self.run_texts(texts).values

    def predict(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return probabilities, float32 [n, labels], columns in the order of `signature.labels`.

        Raises:
            DataError: an element is not valid text, or the model is not a text classifier.
        """
        self._require("text-classification")
        return self.run_texts(texts).values

    def run_texts(self, texts: Sequence[str]) -> TextResult:
        """Answer a batch of texts, whatever the task: embeddings, or probabilities.

        Raises:
            DataError: an element is not valid text, or the model takes no texts.
        """
        return self.run_rows(texts)

    def raw_texts(self, texts: Sequence[str], *, count: bool = True) -> TextResult:
        """Answer a batch of texts as the model does: embeddings, or logits. `count`: as of `run_rows`.

        Raises:
            DataError: an element is not valid text, or the model takes no texts.
        """
        return self._raw_rows(texts, count)

    def read_tokens(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64] | None) -> list[list[int]]:
        """Check rows of token ids that the model's tokenizer made elsewhere; return them without padding.

        Args:
            ids: int64 [n, tokens], special tokens included, padded on the right.
            mask: int64 of the same shape, ones and then zeros; None: every token counts.

        Raises:
            DataError: another shape, no token of the vocabulary, too long, or the model takes no texts.
        """
        if self._encoder is None:
            raise self._no_texts("tokens", "input_ids")
        return token_rows(ids, mask, self._encoder.ids_end, self.signature.max_length)

    def run_rows(self, rows: Sequence[str | list[int]], *, count: bool = True) -> TextResult:
        """Answer texts and rows of `read_tokens`, in any order: a row's answer is the same, bit for bit, as its text's.

        `count`: say how many tokens are cut off, for which the whole of a long text is read.

        Raises:
            DataError: an element is not valid text, or the model takes no texts.
        """
        result = self._raw_rows(rows, count)
        return TextResult(softmax(result.values), result.cut) if self.signature.task == "text-classification" else result

    def _raw_rows(self, rows: Sequence[str | list[int]], count: bool) -> TextResult:
        if self._encoder is None:
            raise self._no_texts("texts", "TEXT")
        texts = [row for row in rows if not isinstance(row, list)]
        encoded = self._encoder.encode(texts, count=count)
        if len(texts) < len(rows):
            made = zip(encoded.ids, encoded.cut, strict=True)
            pairs = [(row, 0) if isinstance(row, list) else next(made) for row in rows]
            encoded = EncodedTexts([row for row, _ in pairs], [len(row) for row, _ in pairs], [cut for _, cut in pairs])
        return TextResult(self._run_buckets(encoded), encoded.cut)

    def predict_arrays(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return probabilities, float32 [n, labels].

        Args:
            values: images, float32 [n, channels, height, width] in [0, 1] (normalised here), or features, float32
                [n, columns] or [n, length, channels].

        Raises:
            DataError: another shape, values that are not finite, or the model takes texts.
        """
        return self.run_arrays(self.prepare_arrays(values))

    def prepare_arrays(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Check, and normalise images: the part of `predict_arrays` that a single wrong request can fail; same shape.

        Raises:
            DataError: another shape, values that are not finite, or the model takes texts.
        """
        return prepared(values, self.signature)

    def run_arrays(self, ready: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return probabilities, float32 [n, labels], of what `prepare_arrays` returned."""
        return softmax(self.raw_arrays(ready))

    def raw_arrays(self, ready: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return logits, float32 [n, labels], of what `prepare_arrays` returned."""
        if self._apart and len(ready) > 1:
            import numpy as np

            return np.concatenate([self.raw_arrays(row) for row in np.split(ready, len(ready))])
        return self._session.run({self.signature.inputs[0]: ready})

    def warm_up(self, rows: int) -> None:
        """Answer a few made-up batches, short and long, up to `rows` rows: allocations are made and pages touched.

        Raises:
            SourceError: the model does not run, or answers something else than its signature says.
        """
        try:
            widths = {values.shape[1] for values in self._warmed(rows)}
        except Exception as error:  # ONNX Runtime has one class per status, without a common base
            raise SourceError(
                "the model does not run",
                field="model.onnx",
                found=str(error)[:500],
                fix="build the model again: still rebuild NAME",
            ) from error
        if widths != {self.signature.dimension}:
            raise SourceError(
                "the model answers something else than its signature says",
                field="signature.json: dimension",
                found=", ".join(map(str, widths)),
                allowed=str(self.signature.dimension),
                fix="build the model again: still rebuild NAME",
            )

    def _warmed(self, rows: int) -> Iterator[npt.NDArray[np.float32]]:
        import numpy as np

        if self._encoder is None:
            for count in {1, rows}:
                yield self.predict_arrays(np.zeros((count, *self.signature.shape), dtype=np.float32))
            return
        for words in (1, 16, max(16, self.signature.max_length)):
            yield self.run_texts(["warm " * words] * min(rows, 4)).values
        yield self.run_texts(["warm " * (1 + row % 24) for row in range(rows)]).values

    def _run_buckets(self, encoded: EncodedTexts) -> npt.NDArray[np.float32]:
        import numpy as np

        buckets = [[row] for row in range(len(encoded.ids))] if self._apart else split(encoded.lengths, self.buckets)
        if len(buckets) == 1 and len(encoded.ids) == 1:
            return self._session.run(run_feed(self.signature, encoded, buckets[0]))
        values: npt.NDArray[np.float32] | None = None
        for bucket in buckets:
            answer = self._session.run(run_feed(self.signature, encoded, bucket))
            if values is None:
                values = np.empty((len(encoded.ids), answer.shape[1]), dtype=np.float32)
            values[bucket] = answer
        if values is None:
            width = len(self.signature.labels) or self.signature.dimension
            values = np.empty((0, width), dtype=np.float32)
        return values

    def _no_texts(self, what: str, field: str) -> DataError:
        return DataError(f"this model takes {self.signature.rows}, not {what}", field=field, allowed=self.signature.tensor)

    def _require(self, task: str) -> None:
        if self.signature.task != task:
            raise DataError("the model has another task", field="task", found=self.signature.task, allowed=task)

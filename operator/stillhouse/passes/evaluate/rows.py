"""The gate's rows: what is sent to a candidate, and what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.clients.inference import Answer, InferenceClient, infer_arrays
from stillhouse.errors import DataError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact
from stillhouse.passes.distill.encoded import encode_texts
from stillhouse.passes.evaluate.columns import check_texts
from stillhouse.passes.evaluate.metrics import Outputs

__all__ = ["GateRows", "Truncation", "answer_rows", "read_reference", "read_rows", "truncation"]


@dataclass(frozen=True, slots=True)
class GateRows:
    """Rows by role.

    `columns` holds lists of strings, `arrays` images, float32 [rows, channels, height, width] in [0, 1], or features, for the
    model's input `tensor`, None where the rows are texts;
    `truth` int64 [rows]: positions in the label order, None where the data has no labels.
    """

    columns: dict[str, list[str]]
    arrays: npt.NDArray[np.float32] | None
    truth: npt.NDArray[np.int64] | None
    tensor: str = "TEXT"

    @property
    def texts(self) -> list[str]:
        """Return every text that is sent, for the load."""
        return [text for role in ("text", "query", "document") for text in self.columns.get(role, [])]

    @property
    def requests(self) -> list[Any]:
        """Return what is sent a row at a time: texts, or arrays of one row (see `infer_row`)."""
        return self.texts if self.arrays is None else [self.arrays[at : at + 1] for at in range(len(self.arrays))]

    @property
    def count(self) -> int:
        """Return the number of rows."""
        return len(self.arrays) if self.arrays is not None else max((len(v) for v in self.columns.values()), default=0)


@dataclass(frozen=True, slots=True)
class Truncation:
    """How much of the gate's text a model does not see, because it lies behind its longest text.

    `texts` were measured, `cut` of them are longer than `max_length` tokens; `tokens` were read, `left_out` were not.
    """

    max_length: int
    texts: int
    cut: int
    tokens: int
    left_out: int


def truncation(rows: GateRows, model: Path, signature: Signature) -> Truncation | None:
    """Count what the model in folder `model` cuts off; None where the rows are no texts."""
    if not rows.texts:
        return None
    encoded = encode_texts(rows.texts, model, signature, None)
    return Truncation(
        signature.max_length,
        encoded.count,
        int((encoded.cut > 0).sum()),
        int(encoded.lengths.sum()),
        int(encoded.cut.sum()),
    )


def read_rows(data: Artifact, signature: Signature, metrics: Iterable[str] = ()) -> GateRows:
    """Read the gate's dataset in the form that the model takes, with the columns that `metrics` need.

    Raises:
        DataError: columns that the task needs are missing, or a label is not one of the model's.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(data.path / "data.parquet")
    names = set(table.column_names)
    if not table.num_rows:
        raise DataError("the gate's data has no rows", field="spec.gate.data", fix="give rows to measure on")
    columns = {role: table[role].to_pylist() for role in ("text", "query", "document") if role in names}
    arrays = None
    if not signature.takes_texts:
        role, what, shape = signature.role, signature.rows, signature.shape
        if role not in names:
            raise DataError(
                f"the gate's data needs {what}", field="spec.gate.data.columns", found=", ".join(sorted(names)), allowed=role
            )
        try:
            flat = np.array(table[role].to_pylist(), dtype=np.float32)
        except ValueError:  # rows of different lengths
            flat = np.zeros((0, 0), dtype=np.float32)
        if flat.shape[1:] != (int(np.prod(shape)),):
            raise DataError(
                f"the {what} have another size than the model's",
                field="spec.gate.data",
                found=str(flat.shape[1:]) if len(flat) else "rows of different lengths",
                allowed=str(shape),
            )
        arrays = flat.reshape(-1, *shape)
    else:
        check_texts(data, sorted(names), metrics)
    truth = None
    if signature.labels and "label" in names:
        truth = _truth(table["label"].to_pylist(), signature.labels)
    return GateRows(columns, arrays, truth, signature.tensor)


def _truth(labels: Iterable[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    positions = {label: position for position, label in enumerate(known)}
    found = list(labels)
    strange = sorted({str(label) for label in found if label not in positions})
    if strange:
        raise DataError(
            "the data has labels that the model does not know",
            field="spec.gate.data",
            found=", ".join(label or f"no label in {found.count(label)} of {len(found)} rows" for label in strange[:5]),
            allowed=", ".join(known[:20]),
            fix="correct the labels, or set spec.source.labels",
        )
    return np.array([positions[label] for label in found], dtype=np.int64)


def read_reference(reference: Artifact) -> Outputs:
    """Read what the teacher answered on the gate's rows."""
    from safetensors.numpy import load_file

    tensors = load_file(str(reference.path / "outputs.safetensors"))
    values: dict[str, Any] = {role: tensors[role].astype(np.float32) for role in ("text", "query", "document") if role in tensors}
    if "logits" in tensors:
        logits = tensors["logits"].astype(np.float64)
        exp = np.exp(logits - logits.max(axis=1, keepdims=True))
        values["probabilities"] = (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)
    return Outputs(**values)


def answer_rows(
    client: Callable[[], InferenceClient],
    model: str,
    rows: GateRows,
    *,
    batch: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> Outputs:
    """Ask the server for every row; `workers` connections, `batch` rows a request."""
    if rows.arrays is not None:
        tensor = rows.tensor
        parts = _asked(client, rows.arrays, batch, workers, lambda c, part: infer_arrays(c, model, tensor, part), progress)
        return Outputs(probabilities=np.concatenate([_some(part.probabilities) for part in parts]), steps=_of_steps(parts))
    values: dict[str, Any] = {}
    every: list[Answer] = []
    total = sum(len(texts) for texts in rows.columns.values())
    before = 0
    for role, texts in rows.columns.items():
        offset = before

        def report(done: int, _: int, offset: int = offset) -> None:
            progress(offset + done, total)

        parts = _asked(client, texts, batch, workers, lambda c, part: c.infer_texts(model, part), report)
        if parts and parts[0].probabilities is not None:
            return Outputs(probabilities=np.concatenate([_some(part.probabilities) for part in parts]), steps=_of_steps(parts))
        every += parts
        values[role] = np.concatenate([_some(part.embeddings) for part in parts])
        before += len(texts)
    return Outputs(**values, steps=_of_steps(every))


def _of_steps(parts: Sequence[Answer]) -> dict[str, npt.NDArray[Any]]:
    names = parts[0].steps if parts else ()
    return {name: np.concatenate([np.asarray(part.steps[name]) for part in parts]) for name in names}


def _some(values: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
    if values is None:
        raise DataError("the server's answer has not the outputs of this task", field="spec.source.task")
    return values


def _asked(
    client: Callable[[], InferenceClient],
    payload: Any,
    batch: int,
    workers: int,
    ask: Callable[[InferenceClient, Any], Answer],
    progress: Callable[[int, int], None],
) -> list[Answer]:
    """Send slices of the payload over several connections; answers come back in order.

    An error, or Ctrl-C, ends it after the requests that are under way.
    """
    slices = list(_slices(len(payload), batch))
    answers: list[Answer | None] = [None] * len(slices)
    count = iter(range(1, len(slices) + 1))
    stop = threading.Event()

    def work(mine: list[int]) -> None:
        connection = client()
        try:
            for position in mine:
                if stop.is_set():
                    return
                answers[position] = ask(connection, payload[slices[position]])
                progress(min(next(count) * batch, len(payload)), len(payload))
        except BaseException:
            stop.set()
            raise
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(work, list(range(first, len(slices), workers))) for first in range(workers)]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            stop.set()
    return [answer for answer in answers if answer is not None]


def _slices(n: int, batch: int) -> Iterator[slice]:
    for start in range(0, n, batch):
        yield slice(start, min(start + batch, n))

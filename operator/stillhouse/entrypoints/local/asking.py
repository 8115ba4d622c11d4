"""Asks a running model, and searches its index."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stillhouse.clients.inference import Answer, infer_arrays
from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.triton import TritonClient
from stillhouse.entrypoints.local import servers
from stillhouse.entrypoints.local.numbers import read_features
from stillhouse.entrypoints.local.text import size
from stillhouse.errors import DataError, StoreError, UsageError
from stillhouse.inference.signature import ImageSpec, Signature
from stillhouse.passes.base import Progress
from stillhouse.settings import load_settings

__all__ = ["Index", "ask", "read_images"]

PATIENCE = 1.0
"""Seconds after which somebody who waits for an answer wants to know for what."""


class Index:
    """A retrieval index: `embeddings` float32 [rows, dimension], L2-normalised, beside names and texts."""

    def __init__(self, folder: Path) -> None:
        import pyarrow.parquet as pq

        self.embeddings: npt.NDArray[np.float32] = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        table = pq.read_table(folder / "index.parquet")
        names = table.column_names
        self.texts = table["text"]
        self.names = table["name"] if "name" in names else None

    def search(self, query: npt.NDArray[np.float32], top: int) -> list[dict[str, Any]]:
        """Return the nearest rows to a query, float32 [dimension], the nearest first."""
        scores = self.embeddings @ query
        top = min(top, len(scores))
        best = np.argpartition(-scores, top - 1)[:top]
        best = best[np.argsort(-scores[best], kind="stable")]
        return [
            {
                "name": self.names[int(row)].as_py() if self.names is not None else str(int(row)),
                "score": round(float(scores[row]), 4),
                "text": self.texts[int(row)].as_py(),
            }
            for row in best
        ]


def ask(name: str, texts: list[str], *, top: int, vector: bool) -> list[dict[str, Any]]:
    """Return an answer for each text, as plain data.

    Raises:
        UsageError: the model is not being served.
        ServerError: the server does not answer.
    """
    store = LocalStore(load_settings().home)
    running = servers.require(store, name)
    state = store.state(name)
    kept: list[dict[str, Any]] = [each for each in (state.get("revision"), *state.get("history", [])) if each]
    revision = next((each for each in kept if each["digest"] == running.revision), {})
    signature = Signature.read(store.objects.opened(running.revision))
    index = None
    if signature.task == "sentence-embedding" and revision.get("index") and not vector:
        problem = _check(store, revision["index"], name)
        if problem:
            raise StoreError(f"the index is damaged: {problem}", field=name, fix=f"still up {state.get('file')}")
        index = Index(store.objects.opened(revision["index"]))
    arrays = None if signature.takes_texts else _arrays(texts, signature)
    rows = int(running.settings.get("maxBatchSize", 1))  # more in one request are refused
    answers: list[dict[str, Any]] = []
    with TritonClient(running.handle.address) as client:
        for start in range(0, len(texts), rows):
            part = slice(start, start + rows)
            if arrays is None:
                answer = client.infer_texts(name, texts[part], provenance=True)
            else:
                answer = infer_arrays(client, name, signature.tensor, arrays[part], provenance=True)
            about = answer.provenance or [{} for _ in texts[part]]
            for row, text in enumerate(texts[part]):
                said = {"text": text, "provenance": about[row], **_said(answer, row, signature, index, top)}
                answers.append(said | ({"steps": _of_steps(answer, row)} if answer.steps else {}))
    return answers


def _arrays(texts: list[str], signature: Signature) -> npt.NDArray[np.float32]:
    if signature.image is not None:
        return read_images(texts, signature.image)
    assert signature.features is not None  # arrays are one or the other
    return read_features(texts, signature.features)


def _said(answer: Answer, row: int, signature: Signature, index: Index | None, top: int) -> dict[str, Any]:
    """Return one row of an answer as plain data: label and probabilities, what the index holds near it, or the embedding."""
    if answer.labels is not None and answer.probabilities is not None:
        order = np.argsort(-answer.probabilities[row])
        shown = {signature.labels[i]: round(float(answer.probabilities[row][i]), 5) for i in order}
        return {"label": answer.labels[row], "probabilities": shown}
    assert answer.embeddings is not None  # the contract's only other answer
    if index is not None:
        return {"results": index.search(answer.embeddings[row], top)}
    return {"embedding": [round(float(value), 6) for value in answer.embeddings[row]]}


def _of_steps(answer: Answer, row: int) -> dict[str, Any]:
    """Return what the steps of a pipeline say of one row, as plain data."""
    return {
        name: values[row] if isinstance(values, list) else _rounded(np.asarray(values[row]))
        for name, values in sorted(answer.steps.items())
    }


def _rounded(values: npt.NDArray[Any]) -> Any:
    return (values.astype(np.float64).round(6) if values.dtype.kind == "f" else values).tolist()


def _check(store: LocalStore, index: str, name: str) -> str:
    """Return what is wrong with an index, or ""; standard error hears of it where that takes long, as with a large one."""
    began = time.monotonic()
    with contextlib.ExitStack() as shown:
        telling: list[Progress] = []

        def report(done: int, total: int) -> None:
            if not telling and done < total and time.monotonic() - began >= PATIENCE:
                from stillhouse.entrypoints.local.display import showing  # what is quick needs none of it

                listener = shown.enter_context(showing())
                listener.note(f"{name}: checking its index of {size(total)} before it is searched")
                telling.append(shown.enter_context(listener.busy("index")))
            for progress in telling:
                progress.update(done, total, "bytes", f"checking the index of {name}")

        return store.objects.check(index, report=report)


def read_images(paths: list[str], spec: ImageSpec) -> npt.NDArray[np.float32]:
    """Read image files (PNG, JPEG) to float32 [images, channels, height, width] in [0, 1].

    Raises:
        UsageError: a file is not there; DataError: it is not an image of the model's shape.
    """
    from stillhouse.inference.image import decode_image

    found = []
    for path in map(Path, paths):
        if not path.is_file():
            raise UsageError(
                "there is no such image",
                field="INPUTS",
                found=str(path) if path.name else "an empty line",
                allowed="PNG or JPEG files: this model takes images",
            )
        try:
            found.append(decode_image(path.read_bytes(), spec))
        except DataError as error:
            error.problem = replace(error.problem, field="INPUTS", found=f"{path}: {error.problem.found}")
            raise
    return np.stack(found)

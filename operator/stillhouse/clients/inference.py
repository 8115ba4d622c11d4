"""The seam to a running model: what callers see, and the fake that stands in for it in their tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Answer", "FakeInferenceClient", "InferenceClient", "ModelStatistics", "ServerInfo", "infer_arrays", "infer_row"]


@dataclass(frozen=True, slots=True)
class Answer:
    """Answers to n rows.

    `embeddings` float32 [n, dimension] of a sentence embedding; `labels` (n strings) and `probabilities` float32
    [n, labels] of a classifier; `provenance` one JSON object a row (digest, precision, variant, truncated) where it
    was asked for; `steps` what the steps of a pipeline say, by its name in the answer: an array [n, …], or n strings.
    """

    embeddings: npt.NDArray[np.float32] | None = None
    labels: list[str] | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    provenance: list[dict[str, Any]] | None = None
    steps: Mapping[str, npt.NDArray[Any] | list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """Counters since the server started; times in nanoseconds, summed over requests.

    `inferences` counts rows, `executions` runs of the backend: their ratio is the mean batch. `batch_sizes` maps a
    batch's rows to how many ran.
    """

    requests_ok: int = 0
    requests_failed: int = 0
    inferences: int = 0
    executions: int = 0
    queue_ns: int = 0
    compute_ns: int = 0
    total_ns: int = 0
    batch_sizes: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says of itself: its id (`--id`), version and extensions."""

    id: str
    version: str
    extensions: tuple[str, ...] = ()


class InferenceClient(Protocol):
    """A client of one server.

    Methods raise `ServerError` where it cannot be reached or refuses, `DataError` where it finds the request wrong.
    """

    def infer_texts(self, model: str, texts: Sequence[str], *, provenance: bool = False) -> Answer:
        """Answer texts, one row each, in one request."""

    def infer_images(self, model: str, images: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer images, float32 [n, channels, height, width] in [0, 1], in one request."""

    def infer_features(self, model: str, features: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer rows of a table, float32 [n, columns], or windows of time series, [n, length, channels], in one request."""

    def ready(self, model: str = "") -> bool:
        """Return whether the server (and the model, where one is named) takes requests; False when unreachable."""

    def statistics(self, model: str) -> ModelStatistics:
        """Return the model's counters."""

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters of the model's configuration: contract version, digest, labels, and so on."""

    def server(self) -> ServerInfo:
        """Return what the server says of itself."""

    def close(self) -> None:
        """Close the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def infer_arrays(
    client: InferenceClient, model: str, tensor: str, values: npt.NDArray[np.float32], *, provenance: bool = False
) -> Answer:
    """Answer arrays, one row each, in one request. `tensor`: the model's input, `IMAGE` or `FEATURES` (`Signature.tensor`)."""
    ask = client.infer_images if tensor == "IMAGE" else client.infer_features
    return ask(model, values, provenance=provenance)


def infer_row(client: InferenceClient, model: str, tensor: str, row: Any) -> Answer:
    """Answer one row: a text of the model's input `TEXT`, or of the others an array with one row."""
    return client.infer_texts(model, [row]) if tensor == "TEXT" else infer_arrays(client, model, tensor, row)


class FakeInferenceClient:
    """An `InferenceClient` that answers from a function of the caller's; counts what it was asked."""

    def __init__(
        self,
        answer: Callable[[str, Sequence[str]], Answer],
        *,
        is_ready: bool = True,
        parameters: dict[str, str] | None = None,
        info: ServerInfo | None = None,
    ) -> None:
        self._answer = answer
        self.is_ready = is_ready
        self.closed = False
        self.requests: list[tuple[str, list[str]]] = []
        self.images = 0
        self.features = 0
        self._parameters = parameters or {}
        self._info = info or ServerInfo("fake", "2.51.0")

    def infer_texts(self, model: str, texts: Sequence[str], *, provenance: bool = False) -> Answer:
        """Answer by the function given, and remember the request."""
        self.requests.append((model, list(texts)))
        return self._answer(model, texts)

    def infer_images(self, model: str, images: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer by the function given; it sees one empty text an image."""
        self.images += len(images)
        return self._answer(model, [""] * len(images))

    def infer_features(self, model: str, features: npt.NDArray[np.float32], *, provenance: bool = False) -> Answer:
        """Answer by the function given; it sees one empty text a row."""
        self.features += len(features)
        return self._answer(model, [""] * len(features))

    def ready(self, model: str = "") -> bool:
        """Return `is_ready`."""
        return self.is_ready

    def statistics(self, model: str) -> ModelStatistics:
        """Return counters of the requests seen, every request a batch of its own."""
        sizes: dict[int, int] = {}
        for _, texts in self.requests:
            sizes[len(texts)] = sizes.get(len(texts), 0) + 1
        rows = sum(size * count for size, count in sizes.items())
        count = len(self.requests)
        return ModelStatistics(requests_ok=count, inferences=rows, executions=count, batch_sizes=sizes)

    def parameters(self, model: str) -> dict[str, str]:
        """Return the parameters given."""
        return dict(self._parameters)

    def server(self) -> ServerInfo:
        """Return the information given."""
        return self._info

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

"""What a model eats and gives: `signature.json`, the only thing beside the weights that a runtime reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from stillhouse.errors import SourceError

__all__ = ["SIGNATURE_FILE", "FeatureSpec", "ImageSpec", "Signature", "Task"]

Task = Literal[
    "sentence-embedding", "text-classification", "image-classification", "tabular-classification", "time-series-classification"
]
SIGNATURE_FILE = "signature.json"
_FIX = "build the model again: still rebuild NAME"
_MOST, _LARGEST_SIDE, _GREAT, _SHOWN = 2**24, 2**16, 1e30, 10**100
"""Beyond these a number is none of a model's: of a width or a length, of an image's side, of its mean; and none that is shown."""

_GREATEST = 3.5e38
"""What float32 can hold: a column may be measured in anything."""
_RANKS = {"tabular-classification": 1, "time-series-classification": 2}
"""Tasks that take features, and how many sizes a row has."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Shape and normalisation of an image input: `(x - mean) / std` per channel, layout CHW, float32."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """Numbers of a fixed form, float32, as they were measured: what normalises them is inside the graph.

    `shape` of a row: [columns] of a table, whose names are `columns`; [length, channels] of a window of a time series, the oldest
    sample first. `mean` and `std`, of each column or channel, are those of the rows that the model learned from; empty where
    nobody knows them.
    """

    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of an ONNX model.

    `inputs` are ONNX names in call order: int64 [batch, sequence] for text, float32 [batch, channels, height, width]
    for images, float32 [batch, columns] or [batch, length, channels] for tables and time series. `output` is float32
    [batch, dimension]: L2-normalised embeddings, or logits in the order of `labels`.
    `max_length` counts tokens, special ones included; longer texts are cut on the right.
    """

    task: Task
    inputs: tuple[str, ...]
    output: str
    dimension: int
    labels: tuple[str, ...] = ()
    max_length: int = 0
    pad_id: int = 0
    tokenizer_digest: str = ""
    image: ImageSpec | None = None
    features: FeatureSpec | None = None
    version: int = 1

    @property
    def tensor(self) -> Literal["TEXT", "IMAGE", "FEATURES"]:
        """Return the input of docs/wire-contract.md."""
        return "IMAGE" if self.image is not None else "FEATURES" if self.features is not None else "TEXT"

    @property
    def role(self) -> Literal["text", "image", "features"]:
        """Return the role of the data's column that holds the rows."""
        return "image" if self.image is not None else "features" if self.features is not None else "text"

    @property
    def rows(self) -> Literal["texts", "images", "features"]:
        """Return what rows are called in messages."""
        return "images" if self.image is not None else "features" if self.features is not None else "texts"

    @property
    def takes_texts(self) -> bool:
        """Return whether rows are texts, else arrays of one shape."""
        return self.image is None and self.features is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of a row that is an array, () of a text."""
        if self.image is not None:
            return self.image.channels, self.image.height, self.image.width
        return () if self.features is None else self.features.shape

    def parameters(self) -> dict[str, str]:
        """Return what a client may read of it by ModelConfig (docs/wire-contract.md)."""
        told = {
            "stillhouse.image": json.dumps(list(self.shape) if self.image else []),
            "stillhouse.labels": json.dumps(list(self.labels), ensure_ascii=False),
            "stillhouse.max_length": str(self.max_length),
            "stillhouse.task": self.task,
            "stillhouse.tokenizer_digest": self.tokenizer_digest,
        }
        if self.features is not None:  # of these models alone, so that the others' files stay as they are
            form = {"shape": self.features.shape, "columns": self.features.columns}
            told["stillhouse.features"] = json.dumps(form, ensure_ascii=False)
        return told

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data. What came later is there only where it is set: older models keep their bytes."""
        data = dataclasses.asdict(self)
        if self.features is None:
            del data["features"]
        return data

    def write(self, folder: Path) -> None:
        """Write `signature.json` into `folder`."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"
        (folder / SIGNATURE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Build from JSON data.

        Raises:
            SourceError: a field is unknown, missing or no such thing, or the version is newer than this one.
        """
        if data.get("version", 1) != 1:
            raise SourceError(
                "this artifact's signature has another version",
                field=SIGNATURE_FILE,
                found=str(data.get("version")),
                allowed="1",
                fix="build the model again with this version: still rebuild NAME",
            )
        values = dict(data)
        image, features = values.pop("image", None), values.pop("features", None)
        try:
            spec = None
            if image is not None:
                spec = ImageSpec(**{**image, "mean": tuple(image["mean"]), "std": tuple(image["std"])})
            numbers = None
            if features is not None:
                numbers = FeatureSpec(**{name: tuple(_list(value)) for name, value in features.items()})
            values["inputs"] = tuple(_list(values["inputs"]))
            values["labels"] = tuple(_list(values.get("labels", ())))
            signature = cls(image=spec, features=numbers, **values)
        except (AttributeError, KeyError, TypeError) as error:
            raise SourceError("the signature is not readable", field=SIGNATURE_FILE, found=str(error), fix=_FIX) from error
        for name, found, allowed in _wrong(signature):
            shown = f"{found!r}"[:200] if not isinstance(found, int) or abs(found) < _SHOWN else "a giant number"
            raise SourceError(
                "the signature is not readable", field=f"{SIGNATURE_FILE}: {name}", found=shown, allowed=allowed, fix=_FIX
            )
        return signature

    @classmethod
    def read(cls, folder: Path) -> Signature:
        """Read `signature.json` of an artifact folder.

        Raises:
            SourceError: the file is missing or not readable.
        """
        path = folder / SIGNATURE_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SourceError("the signature is not readable", field=str(path), found=str(error), fix=_FIX) from error
        if not isinstance(data, dict):
            raise SourceError(
                "the signature is not readable", field=str(path), found=type(data).__name__, allowed="an object", fix=_FIX
            )
        return cls.from_json(data)


def _list(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{type(value).__name__} where a list is expected")
    return value


def _wrong(given: Signature) -> Iterator[tuple[str, object, str]]:
    """Yield the fields that cannot be a model's: name, what was found, what is allowed. What follows may rest on those before."""
    if given.task not in get_args(Task):
        yield "task", given.task, ", ".join(get_args(Task))
    if not given.inputs or not all(map(_named, given.inputs)) or len(set(given.inputs)) < len(given.inputs):
        yield "inputs", given.inputs, "names, each once"
    if not _named(given.output):
        yield "output", given.output, "a name"
    if not all(isinstance(each, str) and _is_utf8(each) for each in given.labels):
        yield "labels", given.labels, "texts"
    digest: object = given.tokenizer_digest
    if not isinstance(digest, str):
        yield "tokenizer_digest", digest, "a text"
    for name, least, most in (("dimension", 1, _MOST), ("max_length", 0, _MOST), ("pad_id", 0, 2**31 - 1)):
        if not _is_number(getattr(given, name), least, most):
            yield name, getattr(given, name), f"a whole number from {least} to {most}"
    labels = 0 if given.task == "sentence-embedding" else given.dimension
    if len(given.labels) != labels:
        yield "labels", f"{len(given.labels)} labels", f"{labels}, for {given.task} of dimension {given.dimension}"
    if (given.image is not None) != (given.task == "image-classification"):
        yield "image", given.image, f"what {given.task} takes"
    if given.image is not None:
        yield from _wrong_of_image(given.image)
    if (given.features is not None) != (given.task in _RANKS):
        yield "features", given.features, f"what {given.task} takes"
    elif given.features is not None:
        yield from _wrong_of_features(given.features, _RANKS[given.task])


def _wrong_of_image(given: ImageSpec) -> Iterator[tuple[str, object, str]]:
    for name in ("height", "width", "channels"):
        if not _is_number(getattr(given, name), 1, _LARGEST_SIDE):
            yield f"image.{name}", getattr(given, name), f"a whole number from 1 to {_LARGEST_SIDE}"
    for name, least in (("mean", -_GREAT), ("std", 0.0)):
        values = getattr(given, name)
        numbers = all(type(each) in (int, float) and least <= each <= _GREAT for each in values)
        if not numbers or len(values) != given.channels or (name == "std" and not all(values)):
            yield f"image.{name}", values, f"{given.channels} numbers" + (" above 0" if name == "std" else "")


def _wrong_of_features(given: FeatureSpec, rank: int) -> Iterator[tuple[str, object, str]]:
    if len(given.shape) != rank or not all(_is_number(each, 1, _LARGEST_SIDE) for each in given.shape):
        yield "features.shape", given.shape, f"{rank} whole numbers from 1 to {_LARGEST_SIDE}"
        return
    names = given.shape[0] if rank == 1 else 0
    if len(given.columns) != names or not all(map(_named, given.columns)) or len(set(given.columns)) < names:
        yield "features.columns", given.columns, f"{names} names, each once"
    for name, least in (("mean", -_GREATEST), ("std", 0.0)):
        values = getattr(given, name)
        numbers = all(type(each) in (int, float) and least <= each <= _GREATEST for each in values)
        if not numbers or len(values) not in (0, given.shape[-1]) or (name == "std" and not all(values)):
            yield f"features.{name}", values, f"{given.shape[-1]} numbers" + (" above 0" if name == "std" else "") + ", or none"


def _is_number(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _named(value: object) -> bool:
    return isinstance(value, str) and value != "" and _is_utf8(value)


def _is_utf8(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)

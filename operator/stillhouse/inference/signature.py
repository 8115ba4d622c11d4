"""What a model eats and gives: `signature.json`, the only thing beside the weights that a runtime reads."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stillhouse.errors import SourceError

__all__ = ["SIGNATURE_FILE", "ImageSpec", "Signature", "Task"]

Task = Literal["sentence-embedding", "text-classification", "image-classification"]
SIGNATURE_FILE = "signature.json"


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Shape and normalisation of an image input: `(x - mean) / std` per channel, layout CHW, float32."""

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of an ONNX model.

    `inputs` are ONNX names in call order: int64 [batch, sequence] for text, float32 [batch, channels, height, width]
    for images. `output` is float32 [batch, dimension]: L2-normalised embeddings, or logits in the order of `labels`.
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
    version: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return dataclasses.asdict(self)

    def write(self, folder: Path) -> None:
        """Write `signature.json` into `folder`."""
        text = json.dumps(self.to_json(), indent=1, sort_keys=True) + "\n"
        (folder / SIGNATURE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Signature:
        """Build from JSON data.

        Raises:
            SourceError: a field is unknown or missing, or the version is newer than this one.
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
        image = values.pop("image", None)
        try:
            spec = None
            if image is not None:
                spec = ImageSpec(**{**image, "mean": tuple(image["mean"]), "std": tuple(image["std"])})
            values["inputs"] = tuple(values["inputs"])
            values["labels"] = tuple(values.get("labels", ()))
            return cls(image=spec, **values)
        except (KeyError, TypeError) as error:
            raise SourceError("the signature is not readable", field=SIGNATURE_FILE, found=str(error)) from error

    @classmethod
    def read(cls, folder: Path) -> Signature:
        """Read `signature.json` of an artifact folder.

        Raises:
            SourceError: the file is missing or not readable.
        """
        path = folder / SIGNATURE_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError("the signature is not readable", field=str(path), found=str(error)) from error
        if not isinstance(data, dict):
            raise SourceError("the signature is not readable", field=str(path), found=type(data).__name__, allowed="an object")
        return cls.from_json(data)

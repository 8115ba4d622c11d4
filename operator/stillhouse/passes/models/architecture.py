"""`architecture.json`: what network the weights of a torch-model artifact belong to. Data only, no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stillhouse.errors import SourceError
from stillhouse.passes.models.shapes import ResidualShape, SmallShape

__all__ = ["ARCHITECTURE_FILE", "WEIGHTS_FILE", "Architecture", "FactoryCall"]

ARCHITECTURE_FILE: Final = "architecture.json"
WEIGHTS_FILE: Final = "model.safetensors"


class FactoryCall(BaseModel):
    """A Python function that returns the network: `target` is `module:function`, called with `arguments` by keyword.

    The artifact holds no code and no path: the module is looked for in the folders of `factory.search_folders()`, then
    among what is installed. `digest` is `sha256:…` over the module's source file (see `factory.source_digest`); where
    it is given, another file is refused, because the weights belong to the code that they were trained with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str
    arguments: dict[str, str | bool | int] = Field(default_factory=dict)
    digest: str | None = None


class Architecture(BaseModel):
    """How the network around the weights is put together.

    `hf-encoder`: a Hugging Face encoder, its last hidden states pooled to [batch, hidden] (`mean` over the tokens that
    are not padding, or the first token), a linear `projection` to that many numbers or none, L2-normalised or not.
    `hf-classifier`: a Hugging Face model with its own classification head, logits [batch, labels]; with `pooling`, an
    encoder whose pooled states (L2-normalised with `normalize`) the linear layer `classifier` turns into as many logits as
    `projection` says.
    `residual-encoder`: a weighted bag of token vectors and a small encoder that corrects it, of the sizes in `residual`
    (see `residual.py`), L2-normalised or not.
    `small-network`: one of the networks in `small/`, of the sizes in `small`, whose features the linear layer `projection` turns
    into as many numbers as it says: embeddings, L2-normalised or not, or logits.
    `factory`: a Python function's network; for texts it is called with (input_ids, attention_mask), for images with the
    normalised pixels, for tables and time series with the numbers as they are; it returns the embeddings (normalised here when
    `normalize` is set) or the logits.

    `pruned`: of layers that were made narrower than the kind says, by their path in the network: outputs, inputs (see
    `pruned.py`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hf-encoder", "hf-classifier", "residual-encoder", "small-network", "factory"]
    pooling: Literal["mean", "cls"] | None = None
    projection: int | None = Field(default=None, ge=1)
    normalize: bool = False
    residual: ResidualShape | None = None
    small: SmallShape | None = None
    factory: FactoryCall | None = None
    pruned: dict[str, tuple[int, int]] | None = None
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _whole(self) -> Architecture:
        if self.kind == "hf-encoder" and self.pooling is None:
            raise ValueError("hf-encoder needs pooling")
        if self.kind in {"factory", "residual-encoder", "small-network"} and self.pooling is not None:
            raise ValueError(f"pooling does not belong to {self.kind}")
        if (self.kind == "residual-encoder") != (self.residual is not None):
            raise ValueError("residual belongs to kind residual-encoder, which needs it")
        if (self.kind == "factory") != (self.factory is not None):
            raise ValueError("factory belongs to kind factory, which needs it")
        if (self.kind == "small-network") != (self.small is not None):
            raise ValueError("small belongs to kind small-network, which needs it")
        if self.small is not None and self.projection is None:
            raise ValueError("small-network needs projection, how many numbers it gives")
        if self.pooling is None and self.projection is not None and self.small is None:
            raise ValueError("projection needs pooling")
        if self.kind == "hf-classifier" and (self.pooling is None) != (self.projection is None):
            raise ValueError("a pooled hf-classifier needs projection, its number of labels")
        if self.kind == "hf-classifier" and self.pooling is None and self.normalize:
            raise ValueError("normalize needs pooling")
        return self

    @property
    def head(self) -> str:
        """Return what the tensors of the linear layer behind the pooling are called: `classifier` or `projection`."""
        return "classifier" if self.kind == "hf-classifier" else "projection"

    def write(self, folder: Path) -> None:
        """Write `architecture.json` into `folder`."""
        # What came later is written only where it is set: older networks keep their bytes, and their digests.
        later: dict[str, Any] = {name: True for name in ("pruned", "small") if getattr(self, name) is None}
        if self.residual is not None and not self.residual.kernel_sizes:
            later["residual"] = {"kernel_sizes", "separable", "dilated"}
        text = json.dumps(self.model_dump(mode="json", exclude=later), indent=1, sort_keys=True) + "\n"
        (folder / ARCHITECTURE_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Architecture:
        """Read `architecture.json` of an artifact folder.

        Raises:
            SourceError: the file is missing, or says what this version does not know.
        """
        path = folder / ARCHITECTURE_FILE
        try:
            data: Any = json.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate(data)
        except (OSError, ValueError, ValidationError) as error:
            raise SourceError(
                "the model's architecture is not readable",
                field=str(path),
                found=str(error),
                fix="build the model again: still rebuild NAME",
            ) from error

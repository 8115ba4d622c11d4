"""`tokenise`: texts to token ids by the model's own tokenizer, as the backend does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Literal

import numpy as np

from stillhouse.errors import DataError, SpecError, UnsafeSource
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.feed import padded_length, text_feed
from stillhouse.inference.preprocess.base import Around, Step, same_type
from stillhouse.inference.preprocess.config import limit
from stillhouse.inference.signature import Signature
from stillhouse.inference.text import TOKENIZER_FILE, TextEncoder, decode_utf8

__all__ = ["Tokenise", "TokeniseConfig"]

_NAMES = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True, slots=True)
class TokeniseConfig:
    """`input` is BYTES [n, 1], UTF-8; `outputs` are INT64 or INT32 [n, tokens], right-padded.

    `tokenizer`: a file of the model's folder. `max_length`: tokens, special ones included; 0: no limit. `padding`: to the longest
    row of the request, to a power of two (few shapes), or always to `max_length`. `max_bytes`: of one text.
    """

    input: str = "TEXT"
    outputs: tuple[str, ...] = ("input_ids", "attention_mask")
    tokenizer: str = TOKENIZER_FILE
    max_length: int = 0
    pad_id: int = 0
    padding: Literal["longest", "power", "full"] = "longest"
    datatype: Literal["INT64", "INT32"] = "INT64"
    max_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if not self.outputs or set(self.outputs) - set(_NAMES) or len(set(self.outputs)) < len(self.outputs):
            raise SpecError("no such output", field="outputs", found=", ".join(self.outputs), allowed=", ".join(_NAMES))
        limit(0 <= self.max_length <= 65536, "maxLength", self.max_length, "0 to 65536")
        limit(0 <= self.pad_id < 1 << 31, "padId", self.pad_id, "0 or more")
        limit(1 <= self.max_bytes <= 1 << 26, "maxBytes", self.max_bytes, "1 to 67108864")
        if self.padding == "full" and not self.max_length:
            raise SpecError("rows of one length need that length", field="maxLength", found="0", allowed="1 or more")

    @classmethod
    def of(cls, signature: Signature) -> TokeniseConfig:
        """Return the configuration that gives a text model what it eats."""
        return cls(outputs=signature.inputs, max_length=signature.max_length, pad_id=signature.pad_id)


class Tokenise(Step[TokeniseConfig]):
    """Equal to the backend's own tokenising, number by number."""

    kind: ClassVar[str] = "tokenise"
    version: ClassVar[int] = 1
    config_type = TokeniseConfig

    def __init__(self, config: TokeniseConfig, around: Around) -> None:
        """Load the tokenizer.

        Raises:
            UnsafeSource: its file would lie outside of the model's folder.
            SourceError: it is missing or not readable.
        """
        super().__init__(config, around)
        path = PurePosixPath(config.tokenizer)
        if path.is_absolute() or ".." in path.parts:
            raise UnsafeSource("the tokenizer must be a file of the model", field="tokenizer", found=config.tokenizer)
        self._encoder = TextEncoder(around.folder / path, config.max_length)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Texts."""
        return (TensorSpec(self.config.input, "BYTES", (-1, 1)),)

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """Token ids and what goes with them."""
        spec = given[self.config.input]
        same_type(spec, ("BYTES",), 1, 2)
        length = self.config.max_length if self.config.padding == "full" else -1
        return tuple(TensorSpec(name, self.config.datatype, (spec.shape[0], length)) for name in self.config.outputs)

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tokenise a request."""
        config = self.config
        texts = tensors[config.input]
        if texts.ndim == 2 and texts.shape[1] != 1:
            raise DataError("one text a row", field=config.input, found=str(list(texts.shape)), allowed="[n, 1]")
        values: list[bytes] = texts.ravel().tolist()
        for row, value in enumerate(values):
            if len(value) > config.max_bytes:
                found, allowed = f"{len(value)} bytes", f"{config.max_bytes} bytes"
                raise DataError("the text is too long", field=f"{config.input}[{row}]", found=found, allowed=allowed)
        encoded = self._encoder.encode(decode_utf8(values, config.input))
        longest = max(encoded.lengths, default=0)
        if config.padding == "power":
            longest = padded_length(longest, config.max_length)
        elif config.padding == "full":
            longest = config.max_length
        feed = text_feed(config.outputs, encoded.ids, encoded.lengths, longest, config.pad_id)
        kind = np.int64 if config.datatype == "INT64" else np.int32
        return {name: tensor.reshape(len(values), longest).astype(kind, copy=False) for name, tensor in feed.items()}

"""Preprocessing as a resource says it: a list of steps, each with the fields of its kind.

One flat model and rules, as of losses: a structural schema knows no unions told apart by a field.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.cascade import Address
from stillhouse.api.scalars import DecimalString, ModelName, whole

__all__ = ["MOST_STEPS", "Preprocess", "PreprocessingStep", "StepTensor", "TravelEncoding", "chain_file"]

MOST_STEPS = 16
_DATATYPE = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
Signed = Annotated[str, StringConstraints(pattern=r"^-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?$", max_length=21)]
TensorName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Function = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)*:[A-Za-z][A-Za-z0-9_]*$", max_length=200),
]
TravelEncoding = Literal["none", "fp16", "int8", "int8-rows", "zstd", "fp16+zstd", "int8+zstd", "int8-rows+zstd"]
Kind = Literal["tokenise", "image", "window", "statistics", "normalise", "python"]

FIELDS: dict[str, tuple[str, ...]] = {
    "tokenise": ("max_length", "padding", "datatype"),
    "image": ("height", "width", "channels", "mean", "std", "max_pixels"),
    "window": ("length", "hop", "merge"),
    "statistics": ("names", "quantiles", "bands", "rate"),
    "normalise": ("mean", "std", "clip"),
    "python": ("function", "inputs", "outputs"),
}
"""Which fields each kind knows; `input` and `output` are of all but `python` (of `tokenise`: `input` alone)."""
_NEEDED = {
    "image": ("height", "width"),
    "window": ("length", "hop"),
    "normalise": ("mean", "std"),
    "python": ("function", "inputs", "outputs"),
}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _kinds_of(name: str) -> list[str]:
    if name == "input":
        return [kind for kind in FIELDS if kind != "python"]
    if name == "output":
        return [kind for kind in FIELDS if kind not in ("python", "tokenise")]
    return [kind for kind, fields in FIELDS.items() if name in fields]


_NAMES = ("input", "output", *dict.fromkeys(name for fields in FIELDS.values() for name in fields))
_BELONGS = {
    name: CelRule(
        f"!has(self.{_camel(name)}) || self.kind in [{', '.join(map(repr, _kinds_of(name)))}]",
        f"{_camel(name)} belongs to {' and '.join(_kinds_of(name))} only",
        _camel(name),
    )
    for name in _NAMES
}
_NEEDS = {
    kind: CelRule(
        f"self.kind != '{kind}' || {' && '.join(f'has(self.{_camel(name)})' for name in names)}",
        f"kind {kind} needs {', '.join(map(_camel, names))}",
    )
    for kind, names in _NEEDED.items()
}
_ALIKE = CelRule(
    "(has(self.mean) ? self.mean.size() : 0) == (has(self.std) ? self.std.size() : 0)", "mean and std have as many numbers", "std"
)
_SPREAD = CelRule("!has(self.std) || self.std.all(x, x.matches('[1-9]'))", "std must be more than 0", "std")
_RATE = CelRule(
    "!has(self.bands) || has(self.rate) && self.rate.matches('[1-9]')", "bands need the rate of the signal, in hertz", "rate"
)
_FULL = CelRule(
    "!has(self.padding) || self.padding != 'full' || has(self.maxLength)", "padding: full needs maxLength", "maxLength"
)


_Length = Annotated[int, Field(ge=-1, le=1 << 30), BeforeValidator(whole)]


class StepTensor(ApiModel):
    """A tensor that a function takes or gives."""

    name: TensorName
    """Its name."""
    datatype: _DATATYPE
    """Its type, as the Open Inference Protocol names it."""
    shape: Annotated[tuple[_Length, ...], Field(max_length=8)]
    """Its shape, rows first; -1 for any length."""


class Band(ApiModel):
    """Frequencies from `low` up to but without `high`, in hertz."""

    low: DecimalString
    """Where it begins."""
    high: DecimalString
    """Where it ends; half the rate at most, which is included."""


class PreprocessingStep(ApiModel):
    """One step from what a client sends to what the model eats (docs/preprocessing.md)."""

    kind: Kind
    """What is done."""
    input: TensorName | None = None
    """Tensor that is taken; the kind's own when left out."""
    output: TensorName | None = None
    """Tensor that is given; the kind's own when left out."""
    max_length: Annotated[int | None, Field(ge=1, le=65536)] = None
    """Tokens of a text, special ones included."""
    padding: Literal["longest", "power", "full"] | None = None
    """Rows as long as the longest, as the next power of two, or as maxLength; `longest` when left out."""
    datatype: Literal["INT64", "INT32"] | None = None
    """Type of the token ids; INT64 when left out."""
    height: Annotated[int | None, Field(ge=1, le=4096)] = None
    """Of the picture that is given, in pixels."""
    width: Annotated[int | None, Field(ge=1, le=4096)] = None
    """Of the picture that is given, in pixels."""
    channels: Literal[1, 3] | None = None
    """1 (grey) or 3 (red, green, blue); 3 when left out."""
    max_pixels: Annotated[int | None, Field(ge=1, le=64_000_000)] = None
    """Pixels of a picture as it is sent; 16,000,000 when left out."""
    mean: Annotated[tuple[Signed, ...] | None, Field(min_length=1, max_length=4096)] = None
    """What is taken off: one number, or one for each channel or feature."""
    std: Annotated[tuple[DecimalString, ...] | None, Field(min_length=1, max_length=4096)] = None
    """What is then divided by."""
    clip: DecimalString | None = None
    """Largest magnitude of what is given; none when left out."""
    length: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    """Samples of a window."""
    hop: Annotated[int | None, Field(ge=1, le=1 << 20)] = None
    """Samples from the start of one window to the start of the next."""
    merge: bool | None = None
    """Every window is a row of its own."""
    names: Annotated[
        tuple[Literal["mean", "std", "min", "max", "range", "rms", "median"], ...] | None, Field(min_length=1, max_length=7)
    ] = None
    """Numbers for each channel; mean, std, min, max and rms when left out."""
    quantiles: Annotated[tuple[DecimalString, ...] | None, Field(min_length=1, max_length=32)] = None
    """Shares from 0 to 1."""
    bands: Annotated[tuple[Band, ...] | None, Field(min_length=1, max_length=64)] = None
    """Frequencies whose energy is given."""
    rate: DecimalString | None = None
    """Samples a second."""
    function: Function | None = None
    """`package.module:function` of a package that whoever runs the machine, or the cluster, allows."""
    inputs: Annotated[tuple[StepTensor, ...] | None, Field(min_length=1, max_length=16)] = None
    """What the function takes."""
    outputs: Annotated[tuple[StepTensor, ...] | None, Field(min_length=1, max_length=16)] = None
    """What the function gives."""

    cel_rules = (*_BELONGS.values(), *_NEEDS.values(), _ALIKE, _SPREAD, _RATE, _FULL)

    @model_validator(mode="after")
    def _fields_fit_kind(self) -> PreprocessingStep:
        for name, rule in _BELONGS.items():
            if getattr(self, name) is not None and self.kind not in _kinds_of(name):
                raise rule.broken()
        if self.kind in _NEEDED and any(getattr(self, name) is None for name in _NEEDED[self.kind]):
            raise _NEEDS[self.kind].broken()
        if len(self.mean or ()) != len(self.std or ()):
            raise _ALIKE.broken()
        if any(not Decimal(each) for each in self.std or ()):
            raise _SPREAD.broken()
        if self.bands is not None and not Decimal(self.rate or 0):
            raise _RATE.broken()
        if self.padding == "full" and self.max_length is None:
            raise _FULL.broken()
        return self

    def plain(self) -> dict[str, Any]:
        """Return the step as `inference.preprocess.chain.load_chain` takes it: numbers as numbers, what was left out left out."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        for name in ("mean", "std", "quantiles"):
            if name in data:
                data[name] = [float(each) for each in data[name]]
        for name in ("clip", "rate"):
            if name in data:
                data[name] = float(data[name])
        if "bands" in data:
            data["bands"] = [[float(each["low"]), float(each["high"])] for each in data["bands"]]
        return data


class Preprocess(ApiModel):
    """Steps in the gateway, whose features go to a model elsewhere: what clients send stays at the edge.

    `still edge FILE` runs them on this machine; in a cluster they are packed, and gateways are all that stands for the file.
    """

    steps: Annotated[tuple[PreprocessingStep, ...], Field(min_length=1, max_length=MOST_STEPS)]
    """One behind the other; what no later step takes is sent on."""
    model: ModelName
    """Name of the model that takes the features, on any server of the protocol; in a cluster, without `address`, the
    DistilledModel of that name in the namespace."""
    address: Address | None = None
    """Where it is, as `grpcs://HOST:PORT` (`grpc://` without TLS), or `mqtts://HOST:PORT`, a broker (docs/mqtt.md; `mqtt://`
    without TLS). `still edge --cloud` is stronger than this."""
    encoding: TravelEncoding = "none"
    """How features travel; any but `none` needs a gateway of ours before the model. Numbers are made smaller of FP32 alone."""


def chain_file(steps: tuple[PreprocessingStep, ...]) -> dict[str, Any]:
    """Return the content of `preprocess.json`."""
    return {"version": 1, "steps": [step.plain() for step in steps]}

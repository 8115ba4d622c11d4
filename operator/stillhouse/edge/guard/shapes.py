"""Whether a request is one that the model could answer, before anything is decoded, allocated or sent on.

Plain data in, a refusal or the elements of the BYTES inputs out. Checks go from cheap to dear, and each relies on those before
it: shapes are held to the model's before they are multiplied, products to the bytes that came before anything is made for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.edge.guard.refusals import Refusal, invalid, shown
from stillhouse.edge.oip.elements import Malformed, split
from stillhouse.edge.oip.fields import FIELDS
from stillhouse.inference.typenames import SIZES

__all__ = ["Bounds", "Input", "Model", "Request", "Tensor", "check"]


@dataclass(frozen=True, slots=True)
class Input:
    """An input of the model's metadata. `shape` as Triton tells it: with the batch first where the model has one; -1 is any.

    `text`: its BYTES are UTF-8 text; with `files` too, those that are not UTF-8 are no texts (an image, as a file), and go on.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    text: bool = False
    files: bool = False


class Model:
    """What the metadata says. `max_batch` 0: the model has no batch dimension, and shapes are whole."""

    __slots__ = ("inputs", "max_batch", "required")

    def __init__(self, inputs: Sequence[Input], max_batch: int = 0) -> None:
        """Take over the metadata.

        Raises:
            ValueError: it contradicts itself: a data type that the protocol has not, a batch where a shape has no dimension.
        """
        for each in inputs:
            if each.datatype not in SIZES:
                raise ValueError(f"input {each.name} has data type {each.datatype}, which the protocol has not")
            if max_batch and not each.shape:
                raise ValueError(f"input {each.name} has no dimension for the batch")
        self.inputs = {each.name: each for each in inputs}
        self.max_batch = max_batch
        self.required = frozenset(each.name for each in inputs if not each.optional)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is allowed beyond the model's own words.

    `message`: bytes of a request. `dimension`: of what is -1 in the metadata. `elements`: of one tensor. `characters`: of one
    text.
    """

    message: int = 4 << 20
    dimension: int = 1 << 20
    elements: int = 1 << 24
    characters: int = 100_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input of a request: in raw form (`raw_length`, and for BYTES `raw` itself), or typed (`count`, and for BYTES `strings`).

    `raw_length`: bytes of its part of raw_input_contents. `count`: elements in the field of its type, over all such fields.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw_length: int | None = None
    raw: bytes | memoryview | None = None
    count: int | None = None
    strings: Sequence[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `size`: bytes of the message as it came. `raws`: entries of raw_input_contents."""

    size: int
    inputs: Sequence[Tensor]
    raws: int = 0


def check(request: Request, model: Model, bounds: Bounds) -> Refusal | dict[str, Sequence[bytes]]:
    """Return what is wrong, or the elements of each BYTES input by name."""
    if request.size > bounds.message:
        return invalid("request", "the message is too large", f"{request.size} bytes", f"{bounds.message} bytes")
    wrong = _names(request, model)
    if wrong is not None:
        return wrong
    strings: dict[str, Sequence[bytes]] = {}
    batch: int | None = None
    for position, tensor in enumerate(request.inputs):
        field = f"inputs[{position}]"
        given = model.inputs[tensor.name]
        if tensor.datatype != given.datatype:
            return invalid(f"{field}.datatype", _of(tensor, "has another data type"), shown(tensor.datatype), given.datatype)
        volume = _volume(field, tensor, given, model.max_batch, bounds)
        if isinstance(volume, Refusal):
            return volume
        if model.max_batch:
            if batch is not None and batch != tensor.shape[0]:
                return invalid(
                    f"{field}.shape", _of(tensor, "has another batch size than the inputs before it"), tensor.shape[0], batch
                )
            batch = tensor.shape[0]
        if SIZES[given.datatype] is None:
            elements = _strings(field, tensor, volume)
            wrong = elements if isinstance(elements, Refusal) else _texts(field, tensor, given, elements, bounds)
            if wrong is not None:
                return wrong
            assert not isinstance(elements, Refusal)
            strings[tensor.name] = elements
        else:
            wrong = _length(field, tensor, volume)
            if wrong is not None:
                return wrong
    return strings


def _of(tensor: Tensor, message: str) -> str:
    return f"input {shown(tensor.name)} {message}"


def _names(request: Request, model: Model) -> Refusal | None:
    """Check which inputs there are: the model's, each once, all in one form."""
    if len(request.inputs) > len(model.inputs):
        return invalid("inputs", "there are too many", len(request.inputs), len(model.inputs))
    seen: set[str] = set()
    raw = 0
    for position, tensor in enumerate(request.inputs):
        field = f"inputs[{position}].name"
        if tensor.name not in model.inputs:
            return invalid(field, "the model has no such input", shown(tensor.name), ", ".join(model.inputs))
        if tensor.name in seen:
            return invalid(field, "the input is there twice", shown(tensor.name), "each input once")
        seen.add(tensor.name)
        raw += tensor.raw_length is not None
    missing = model.required - seen
    if missing:
        return invalid("inputs", "an input is missing", ", ".join(map(shown, seen)) or "none", ", ".join(sorted(model.required)))
    if request.raws != raw:
        return invalid("raw_input_contents", "its entries are not the inputs'", f"{request.raws} entries", f"{raw} entries")
    if raw not in (0, len(request.inputs)):
        return invalid("raw_input_contents", "some inputs are raw, others not", f"{raw} of {len(request.inputs)}", "all or none")
    return None


def _volume(field: str, tensor: Tensor, given: Input, max_batch: int, bounds: Bounds) -> Refusal | int:
    """Return the number of elements. Stops multiplying at the bound, so no dimension makes a number that takes long to make."""
    field = f"{field}.shape"
    if len(tensor.shape) != len(given.shape):
        return invalid(field, _of(tensor, "has another rank"), f"{len(tensor.shape)} dimensions", _shape(given, max_batch))
    volume = 1
    for position, (found, wanted) in enumerate(zip(tensor.shape, given.shape, strict=True)):
        if max_batch and position == 0:
            most, least = max_batch, 1
        elif wanted >= 0:
            most = least = wanted
        else:
            most, least = bounds.dimension, 1
        if not least <= found <= most:
            allowed = str(least) if least == most else f"{least} to {most}"
            return invalid(f"{field}[{position}]", _of(tensor, "has a dimension that is not allowed"), found, allowed)
        volume *= found
        if volume > bounds.elements:
            return invalid(field, _of(tensor, "has too many elements"), list(tensor.shape), f"{bounds.elements} elements")
    return volume


def _shape(given: Input, max_batch: int) -> list[object]:
    return [f"1 to {max_batch}", *given.shape[1:]] if max_batch else list(given.shape)


def _length(field: str, tensor: Tensor, volume: int) -> Refusal | None:
    """Compare the contents of a tensor of numbers with its shape."""
    if tensor.raw_length is None:
        if tensor.datatype not in FIELDS:
            return invalid(
                f"{field}.contents", _of(tensor, f"is {tensor.datatype}, which has no field"), "typed", "raw_input_contents"
            )
        if tensor.count != volume:
            return invalid(f"{field}.contents", _of(tensor, "does not fill its shape"), f"{tensor.count or 0} elements", volume)
        return None
    if tensor.count:
        return invalid(f"{field}.contents", _of(tensor, "has contents in both forms"), "raw and typed", "one of them")
    size = SIZES[tensor.datatype]
    assert size is not None
    if tensor.raw_length != volume * size:
        return invalid(
            "raw_input_contents", _of(tensor, "does not fill its shape"), f"{tensor.raw_length} bytes", f"{volume * size} bytes"
        )
    return None


def _strings(field: str, tensor: Tensor, volume: int) -> Refusal | Sequence[bytes]:
    """Return the elements of a BYTES tensor."""
    if tensor.raw_length is None:
        strings = tensor.strings or ()
        if len(strings) != volume:
            return invalid(f"{field}.contents", _of(tensor, "does not fill its shape"), f"{len(strings)} elements", volume)
        return strings
    if tensor.count or tensor.strings:
        return invalid(f"{field}.contents", _of(tensor, "has contents in both forms"), "raw and typed", "one of them")
    if tensor.raw is None or len(tensor.raw) != tensor.raw_length:
        raise ValueError("of a raw BYTES tensor the bytes are needed")  # the caller's mistake and no client's
    try:
        return split(tensor.raw, volume)
    except Malformed as error:
        return invalid("raw_input_contents", _of(tensor, str(error)), error.found, error.allowed)


def _texts(field: str, tensor: Tensor, given: Input, elements: Sequence[bytes], bounds: Bounds) -> Refusal | None:
    """Hold texts to their greatest length in characters. What is over four times as many bytes is not decoded to be counted."""
    if not given.text:
        return None
    for number, element in enumerate(elements):
        if len(element) <= bounds.characters * 4 or given.files:
            try:
                count: int | None = len(element.decode())
            except UnicodeDecodeError as error:
                if given.files:
                    continue
                return invalid(
                    f"{field}[{number}]", _of(tensor, "is no UTF-8"), f"byte {error.start}: {error.reason}", "UTF-8 text"
                )
        else:
            count = None
        if count is None or count > bounds.characters:
            found = f"{len(element)} bytes" if count is None else f"{count} characters"
            return invalid(f"{field}[{number}]", _of(tensor, "is too long"), found, f"{bounds.characters} characters")
    return None

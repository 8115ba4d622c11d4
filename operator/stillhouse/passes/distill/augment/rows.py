"""`augment`: the rows of `data`, then changed copies of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from stillhouse.errors import DataError, SpecError
from stillhouse.inference.signature import Signature
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.distill.augment.images import IMAGE_CHANGES
from stillhouse.passes.distill.augment.texts import TEXT_CHANGES, change_text
from stillhouse.passes.sources.derived import named_columns, numbers_of, read_table, unused_columns, write_table

__all__ = ["Augment", "AugmentConfig", "AugmentFacts", "Operation"]

_TEXT_ROLES: Final = ("text", "query", "document")
_PART: Final = 8_192
"""Copies that are made between two files: what an interruption may cost."""

Change = Callable[[Any, np.random.Generator], Any]


class Operation(PassConfig):
    """One change: `amount` of what (by kind), done to a copy with probability `chance`."""

    kind: Literal["synonym", "mask", "swap", "delete", "flip", "crop", "rotate", "noise"]
    amount: float = Field(ge=0, le=1)
    chance: float = Field(gt=0, le=1)


class AugmentConfig(PassConfig):
    """`copies` of every row; `labels`: `keep` the row's, or `teacher`: none, so that only what the teacher says counts."""

    copies: int = Field(ge=1)
    labels: Literal["keep", "teacher"]
    operations: tuple[Operation, ...] = Field(min_length=1)
    seed: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class AugmentFacts:
    """`rows` in all, `copies` of them changed; `unchanged` copies were left out. `words`: how many have synonyms."""

    rows: int
    copies: int
    unchanged: int
    words: int
    named: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


class Augment(Pass[AugmentConfig, AugmentFacts]):
    """Changed copies, behind the rows that they are of.

    What is drawn for a copy follows from the seed, its row and its number alone, so a run that was interrupted goes on with the
    next file of copies and gives the same bytes.
    """

    name = "augment"
    version = 1
    kind = "dataset"
    config_type = AugmentConfig

    def run(self, config: AugmentConfig, inputs: Mapping[str, Artifact], ctx: Context) -> AugmentFacts:
        """Write the rows and the copies.

        Raises:
            SpecError: an operation that this teacher, or this kind of data, cannot have.
            DataError: the images have another size than the teacher takes.
        """
        import pyarrow

        data, teacher = inputs["data"], inputs["teacher"].path
        table = read_table(data)
        changes, words = _changes(config, table, teacher, ctx)
        total = table.num_rows * config.copies
        parts: list[Any] = []
        for first in range(0, total, _PART):
            path = ctx.scratch / f"copies-{first // _PART:05d}.parquet"
            part = _whole(path)
            if part is None:
                items = range(first, min(first + _PART, total))
                part = _copies(table, items, config, changes)
                _keep(part, path)
            parts.append(part)
            ctx.progress.update(min(first + _PART, total), total, "rows", "changing copies")
        made = write_table(pyarrow.concat_tables([table, *(part.cast(table.schema) for part in parts)]), ctx.out, data)
        copies = made.rows - table.num_rows
        ctx.progress.note(f"{table.num_rows:,} rows and {copies:,} changed copies; {total - copies:,} could not be changed")
        return AugmentFacts(made.rows, copies, total - copies, words, named_columns(data), unused_columns(data))


def _changes(config: AugmentConfig, table: Any, teacher: Path, ctx: Context) -> tuple[Callable[[int], Mapping[str, Change]], int]:
    """Return what changes a row: operation's place → role → change; and how many words have synonyms."""
    images = "image" in table.column_names
    kinds: Sequence[str] = tuple(IMAGE_CHANGES) if images else TEXT_CHANGES
    wrong = next((each.kind for each in config.operations if each.kind not in kinds), None)
    if wrong:
        raise SpecError(
            f"{wrong} is no operation on {'images' if images else 'texts'}",
            field="spec.distill.augment.operations[].kind",
            found=wrong,
            allowed=", ".join(kinds),
        )
    if images:
        shape = _shape(table, teacher)

        def change_image(place: int) -> Mapping[str, Change]:
            operation = config.operations[place]
            change = IMAGE_CHANGES[operation.kind]
            return {"image": lambda pixels, generator: change(pixels.reshape(shape), operation.amount, generator).reshape(-1)}

        return change_image, 0
    from stillhouse.passes.distill.augment.synonyms import mask_token, neighbours_of

    roles = [role for role in _TEXT_ROLES if role in table.column_names]
    wanted = {each.kind for each in config.operations}
    near: dict[str, list[str]] = {}
    if "synonym" in wanted:
        near = neighbours_of(teacher, (text for role in roles for text in table.column(role).to_pylist()), ctx.progress)
    token = mask_token(teacher) if "mask" in wanted else ""

    def change_texts(place: int) -> Mapping[str, Change]:
        operation = config.operations[place]
        change = change_text(operation.kind, near, token)
        return dict.fromkeys(roles, lambda text, generator: change(text, operation.amount, generator))

    return change_texts, len(near)


def _shape(table: Any, teacher: Path) -> tuple[int, int, int]:
    spec = Signature.read(teacher).image
    numbers = numbers_of(table).shape[1]
    if spec is None or spec.channels * spec.height * spec.width != numbers:
        raise DataError(
            "images have another size than the model's input",
            field="data.columns.image",
            found=f"{numbers} numbers a row",
            allowed="no shape is known" if spec is None else f"{spec.channels} × {spec.height} × {spec.width}",
            fix="set spec.source.image to the shape of the data, or give images of that shape",
        )
    return spec.channels, spec.height, spec.width


def _copies(table: Any, items: range, config: AugmentConfig, changes: Callable[[int], Mapping[str, Change]]) -> Any:
    """Return the copies with these numbers (row × copies + copy), without those that came out as their row is."""
    import pyarrow

    rows = np.array([item // config.copies for item in items], dtype=np.int64)
    part = table.take(rows)
    by_place = [changes(place) for place in range(len(config.operations))]
    roles = list(by_place[0])
    before = {role: list(numbers_of(part)) if role == "image" else part.column(role).to_pylist() for role in roles}
    after: dict[str, list[Any]] = {role: [] for role in roles}
    changed = np.zeros(len(rows), dtype=bool)
    for at, item in enumerate(items):
        generator = np.random.Generator(np.random.PCG64([config.seed, *divmod(item, config.copies)]))
        chosen = np.flatnonzero(generator.random(len(by_place)) < [each.chance for each in config.operations]).tolist()
        for role in roles:
            value = before[role][at]
            for place in chosen or [int(generator.integers(len(by_place)))]:
                value = by_place[place][role](value, generator)
            changed[at] |= not np.array_equal(value, before[role][at])
            after[role].append(value)
    columns = {}
    for name in part.column_names:
        kind = part.schema.field(name).type
        if name in roles:
            values: Any = pyarrow.array(after[name], type=kind)
        elif name == "label" and config.labels == "teacher":
            values = pyarrow.array([""] * len(rows), type=kind)
        else:
            values = part.column(name)
        columns[name] = values
    return pyarrow.table(columns, schema=table.schema).filter(pyarrow.array(changed))


def _whole(path: Path) -> Any:
    """Return a file of copies of an earlier attempt, None where there is none."""
    import pyarrow
    import pyarrow.parquet

    with contextlib.suppress(OSError, pyarrow.ArrowInvalid):
        return pyarrow.parquet.read_table(path)
    return None


def _keep(part: Any, path: Path) -> None:
    """Write aside, to the disk, then rename: a file under its final name is whole whatever happens."""
    import pyarrow.parquet

    aside = path.with_suffix(".tmp")
    pyarrow.parquet.write_table(part, aside)
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(path)

"""`import-data`: Parquet, JSONL or CSV → `dataset`, with columns named by their role and every row looked at once."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import DataError, MissingPackages, SourceError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.dataset import DATA_FILE, Description
from stillhouse.passes.sources.images import ImageColumn
from stillhouse.passes.sources.leaks import normalised
from stillhouse.passes.sources.pinned import refuse_changed

__all__ = ["DataFacts", "ImportData", "ImportDataConfig"]

Role = Literal["text", "label", "image", "query", "document", "name", "group"]
_ROLES: tuple[Role, ...] = ("text", "label", "image", "query", "document", "name", "group")
_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv"}
_BATCH = 4096
_HISTOGRAM = 50


class ImportDataConfig(PassConfig):
    """Configuration of `import-data`.

    `columns`: role → column; roles left out are looked for under their own name, but for `group`. `max_rows`: take only the
    first ones.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    digest: str
    columns: dict[Role, str] = Field(default_factory=dict)
    max_rows: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the data is.

    `classes` label → rows (the 50 largest), `unlabelled` rows whose label is null (kept as ""), `grouped` rows that share
    their group with another, `duplicates` rows whose
    text (or query) occurred before after normalisation,
    `text_length` quantiles of the text's (or query's) characters at 0, 5, 25, 50, 75, 95 and 100 %, `content` digest of
    the rows in their order.
    """

    rows: int
    columns: tuple[str, ...]
    classes: dict[str, int]
    class_count: int
    unlabelled: int
    grouped: int
    duplicates: int
    text_length: dict[str, int]
    image_shape: tuple[int, ...]
    source_digest: str
    content: str


class ImportData(Pass[ImportDataConfig, DataFacts]):
    """A data file, or a folder of files of one format → `dataset`."""

    name = "import-data"
    version = 3
    kind = "dataset"
    config_type = ImportDataConfig

    def run(self, config: ImportDataConfig, inputs: Mapping[str, Artifact], ctx: Context) -> DataFacts:
        """Check `ctx.source` row by row and write `data.parquet` and `dataset.json`.

        Raises:
            SourceError: the file is missing, of another format, or cannot be parsed.
            DataError: a column is missing, there are no rows, or a value is not what its role needs (the row is named).
            MissingPackages: `datasets` is not installed.
        """
        if ctx.source is None or not ctx.source.exists():
            raise SourceError("the data is gone", field="data.uri", found=str(ctx.source), fix="run the command again")
        table = _open(ctx.source, ctx.scratch / "datasets")
        columns = _choose(config.columns, list(table.column_names))
        total = min(len(table), config.max_rows or len(table))
        if total == 0:
            raise _no_rows(ctx.source.name)
        content = _write(table, columns, total, ctx)
        content.check()
        refuse_changed(ctx.source, config.digest, "data.uri")
        description = Description(
            tuple(columns), total, config.digest, content.digest, tuple(sorted(content.labels)), content.images.shape
        )
        description.write(ctx.out)
        return DataFacts(
            rows=total,
            columns=tuple(columns),
            classes=dict(sorted(content.labels.most_common(_HISTOGRAM), key=lambda item: (-item[1], item[0]))),
            class_count=len(content.labels),
            unlabelled=content.unlabelled,
            grouped=sum(rows for rows in content.groups.values() if rows > 1),
            duplicates=content.duplicates,
            text_length=_quantiles(content.lengths),
            image_shape=content.images.shape,
            source_digest=config.digest,
            content=content.digest,
        )


@dataclass(slots=True)
class _Content:
    """What is learned while rows go by."""

    columns: tuple[Role, ...]
    labels: Counter[str] = field(default_factory=Counter)
    groups: Counter[str] = field(default_factory=Counter)
    unlabelled: int = 0
    lengths: list[int] = field(default_factory=list)
    duplicates: int = 0
    images: ImageColumn = field(default_factory=ImageColumn)
    _seen: set[bytes] = field(default_factory=set)
    _hash: Any = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """Return the digest of all rows so far, in their order."""
        return "sha256:" + str(self._hash.hexdigest())

    def take(self, role: Role, values: Sequence[Any], first_row: int, column: str) -> list[Any]:
        """Check a column's values and return them as they are stored."""
        if role == "image":
            images = self.images.take(values, first_row, column)
            self._update(image.tobytes() for image in images)
            return list(images)
        if role == "label":
            # Few labels and much text is a task of its own: null says that nobody knows, and only null does.
            texts = ["" if value is None else _label(value, row, column, role) for row, value in enumerate(values, first_row)]
            self.labels.update(text for text in texts if text)
            self.unlabelled += sum(not text for text in texts)
        elif role == "group":
            texts = ["" if value is None else _label(value, row, column, role) for row, value in enumerate(values, first_row)]
            self.groups.update(text for text in texts if text)
        else:
            texts = [_text(value, row, column, role) for row, value in enumerate(values, first_row)]
            if role == ("text" if "text" in self.columns else "query"):
                self._count(texts)
        self._update(text.encode() for text in texts)
        return list(texts)

    def check(self) -> None:
        """Judge what only all rows together can say.

        Raises:
            DataError: there is a column of labels, but nothing in it, or one class only.
        """
        if self.unlabelled and not self.labels:
            _label(None, 1, "label", "label")
        if "group" in self.columns and max(self.groups.values(), default=0) < 2:
            raise DataError(
                "no two rows are of one group",
                field="data.columns.group",
                found=f"{len(self.groups)} groups of one row each" if self.groups else "null in every row",
                allowed="the same value in the rows that say the same, null in rows that stand alone",
                fix="name the column that joins rows, for example a summary and its text",
            )
        if "label" in self.columns and len(self.labels) < 2:
            raise DataError(
                "all rows have the same label",
                field="data.columns.label",
                found=f"{next(iter(self.labels))!r} in every row",
                allowed="at least two classes",
                fix="name the column that holds the classes, or add rows of other classes",
            )

    def _update(self, values: Iterable[bytes]) -> None:
        for raw in values:
            self._hash.update(len(raw).to_bytes(8, "little") + raw)

    def _count(self, texts: list[str]) -> None:
        for text in texts:
            self.lengths.append(len(text))
            key = hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self.duplicates += key in self._seen
            self._seen.add(key)


def _write(table: Any, columns: dict[Role, str], total: int, ctx: Context) -> _Content:
    import pyarrow
    import pyarrow.parquet

    kinds = {role: pyarrow.list_(pyarrow.float32()) if role == "image" else pyarrow.string() for role in columns}
    schema = pyarrow.schema([pyarrow.field(role, kind, nullable=False) for role, kind in kinds.items()])
    content = _Content(tuple(columns))
    with pyarrow.parquet.ParquetWriter(ctx.out / DATA_FILE, schema, compression="zstd") as writer:
        for start in range(0, total, _BATCH):
            batch = table[start : min(start + _BATCH, total)]
            made = {role: content.take(role, batch[column], start + 1, column) for role, column in columns.items()}
            arrays = [pyarrow.array(made[role], type=kinds[role]) for role in columns]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            ctx.progress.update(min(start + _BATCH, total), total, "rows", "reading")
    return content


def _open(source: Path, cache: Path) -> Any:
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.suffix in _FORMATS)
    formats = sorted({path.suffix for path in files})
    if len(formats) != 1 or formats[0] not in _FORMATS:
        raise SourceError(
            "the data's format is not known" if len(formats) < 2 else "the folder mixes formats",
            field="data.uri",
            found=", ".join(formats) or source.name,
            allowed=".parquet, .jsonl or .csv",
            fix="name one file, or a folder with files of one format",
        )
    empty = [path for path in files if path.stat().st_size == 0]
    if empty:
        raise DataError(
            "the file is empty", field="data.uri", found=empty[0].name, allowed="rows", fix="check how the file was made"
        )
    try:
        import datasets
    except ImportError as error:
        raise MissingPackages("reading data needs datasets", found=str(error), fix="pip install 'stillhouse[build]'") from error
    # A text "NA" is a text; a Parquet file without row groups has no batch size of its own.
    choices: dict[str, dict[str, Any]] = {".csv": {"keep_default_na": False}, ".parquet": {"batch_size": _BATCH}}
    options = choices.get(formats[0], {})
    progress = datasets.utils.logging.is_progress_bar_enabled()
    datasets.utils.logging.disable_progress_bar()
    try:
        return datasets.load_dataset(
            _FORMATS[formats[0]],
            data_files=[str(path) for path in files],
            split="train",
            cache_dir=str(cache),
            keep_in_memory=False,
            **options,
        )
    except Exception as error:  # parsers of three formats, wrapped differently by every release
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if "corresponds to no data" in str(error):  # how datasets says that a header stands alone
            raise _no_rows(source.name) from error
        raise SourceError(
            "the data cannot be parsed",
            field="data.uri",
            found=f"{source.name}: {cause}".splitlines()[0][:300],
            allowed="valid Parquet, JSON lines (UTF-8, one object a line) or CSV (with a header line)",
            fix="check the file: is it whole, and does its name end as its format does?",
        ) from error
    finally:
        if progress:
            datasets.utils.logging.enable_progress_bar()


def _no_rows(name: str) -> DataError:
    return DataError(
        "the data has no rows", field="data.uri", found=name, allowed="at least one row", fix="check how the file was made"
    )


def _choose(named: Mapping[Role, str], there: list[str]) -> dict[Role, str]:
    for role, column in named.items():
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1, cutoff=0.5)
            raise DataError(
                "the data has no such column",
                field=f"data.columns.{role}",
                found=column,
                allowed=", ".join(there[:20]) or "no columns at all",
                fix=f"did you mean {near[0]}?" if near else f"write columns: {{{role}: {there[0] if there else 'COLUMN'}}}",
            )
    # Many tables have a column "group" that means something else: this role counts only where it is named.
    chosen = {role: named.get(role, str(role)) for role in _ROLES if role in named or (role in there and role != "group")}
    if not chosen:
        raise DataError(
            "no column has a role",
            field="data.columns",
            found=", ".join(there[:20]),
            allowed=", ".join(_ROLES),
            fix=f"name the one with the texts: columns: {{text: {there[0] if there else 'COLUMN'}}}",
        )
    return chosen


def _text(value: Any, row: int, column: str, role: Role) -> str:
    if isinstance(value, str) and value.strip() and value.isprintable():
        return value  # the common case; what is left is looked at more closely
    if isinstance(value, str) and value.strip() and not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    shown = "an empty text" if isinstance(value, str) else "nothing" if _missing(value) else f"{type(value).__name__} {value!r}"
    raise DataError(
        f"row {row} has no {role}",
        field=f"data.columns.{role}",
        found=f"{shown} in row {row}, column {column}"[:200],
        allowed="a text that is not empty in every row",
        fix="remove or mend that row",
    )


def _label(value: Any, row: int, column: str, role: Role) -> str:
    if isinstance(value, str) and value.strip() == value and value:
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value.strip():
        shown = f"{value!r}, with white space around it"
    else:
        shown = "nothing" if _missing(value) or value == "" else repr(value)
    raise DataError(
        f"row {row} has no usable {role}",
        field=f"data.columns.{role}",
        found=f"{shown} in row {row}, column {column}"[:200],
        allowed="a name without white space around it, or a whole number",
        fix="remove or mend that row",
    )


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _quantiles(lengths: list[int]) -> dict[str, int]:
    if not lengths:
        return {}
    ordered = sorted(lengths)
    return {f"{share}%": ordered[round((len(ordered) - 1) * share / 100)] for share in (0, 5, 25, 50, 75, 95, 100)}

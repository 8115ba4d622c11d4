"""`import-data`: Parquet, JSONL or CSV → `dataset`, with columns named by their role and every row looked at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from stillhouse.errors import SourceError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.columns import Role, choose, need_of
from stillhouse.passes.sources.dataset import DATA_FILE, Description
from stillhouse.passes.sources.features import Chosen, choose_features, rows_of
from stillhouse.passes.sources.header import header
from stillhouse.passes.sources.judging import Content
from stillhouse.passes.sources.limits import FeaturesConfig
from stillhouse.passes.sources.pinned import readable, refuse_changed
from stillhouse.passes.sources.reading import BATCH, no_rows, open_table, unparsable

__all__ = ["DataFacts", "ImportData", "ImportDataConfig"]

_HISTOGRAM = 50


class ImportDataConfig(PassConfig):
    """Configuration of `import-data`.

    `columns`: role → column; roles left out are looked for under their own name, but for `group` and `weight`. `max_rows`: take
    only the first ones. `features`: the rows are such numbers, named by the source.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    digest: str
    columns: dict[Role, str] = Field(default_factory=dict)
    max_rows: int | None = Field(default=None, ge=1)
    features: FeaturesConfig | None = None


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the data is.

    `classes` label → rows (the 50 largest), `unlabelled` rows whose label is null (kept as ""), `grouped` rows that share
    their group with another, `duplicates` rows whose
    text (or query) occurred before after normalisation,
    `named` role → column of the file, `unused` columns of the file that play no role (the first 50),
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
    unused: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)


class ImportData(Pass[ImportDataConfig, DataFacts]):
    """A data file, or a folder of files of one format → `dataset`."""

    name = "import-data"
    version = 3
    kind = "dataset"
    config_type = ImportDataConfig

    def run(self, config: ImportDataConfig, inputs: Mapping[str, Artifact], ctx: Context) -> DataFacts:
        """Check `ctx.source` row by row and write `data.parquet` and `dataset.json`.

        Raises:
            SourceError: the file is missing, of another format, or cannot be read or parsed.
            DataError: a column is missing, there are no rows, or a value is not what its role needs (the row is named).
            MissingPackages: `datasets` is not installed.
        """
        if ctx.source is None or not ctx.source.exists():
            raise SourceError("the data is gone", field="data.uri", found=str(ctx.source), fix="run the command again")
        with readable(ctx, "data.uri"):
            # What a parser makes of a column of numbers changes with its rows; a table's are read as they are written.
            names = header(ctx.source) if config.features and config.features.columns else None
            table = open_table(ctx.source, ctx.scratch / "datasets", names or ())
        chosen = _chosen(config, list(table.column_names), ctx)
        columns = chosen.roles
        total = min(len(table), config.max_rows or len(table))
        if total == 0:
            raise no_rows(ctx.source.name)
        content = _write(table, chosen, config.features, total, ctx)
        content.check(need_of(ctx.field), copied=ctx.copied)
        with readable(ctx, "data.uri"):
            refuse_changed(ctx.source, config.digest, "data.uri")
        roles = content.columns
        description = Description(
            roles, total, config.digest, content.digest, tuple(sorted(content.labels)), content.images.shape
        )
        description.write(ctx.out)
        return DataFacts(
            rows=total,
            columns=roles,
            classes=dict(sorted(content.labels.most_common(_HISTOGRAM), key=lambda item: (-item[1], item[0]))),
            class_count=len(content.labels),
            unlabelled=content.unlabelled,
            grouped=sum(rows for rows in content.groups.values() if rows > 1),
            duplicates=content.duplicates,
            text_length=_quantiles(content.lengths),
            image_shape=content.images.shape,
            source_digest=config.digest,
            content=content.digest,
            unused=tuple(name for name in table.column_names if name not in (*columns.values(), *chosen.features))[:_HISTOGRAM],
            named={str(role): column for role, column in columns.items()},
        )


def _chosen(config: ImportDataConfig, there: list[str], ctx: Context) -> Chosen:
    if config.features is not None:
        return choose_features(config.columns, there, config.features)
    return Chosen(choose(config.columns, there, need_of(ctx.field)), ())


def _write(table: Any, chosen: Chosen, form: FeaturesConfig | None, total: int, ctx: Context) -> Content:
    import pyarrow
    import pyarrow.parquet

    columns = chosen.roles
    roles: tuple[Role, ...] = (*(("features",) if form is not None else ()), *columns)
    numbers = pyarrow.list_(pyarrow.float32())
    special = {"image": numbers, "features": numbers, "weight": pyarrow.float64()}
    kinds = {role: special.get(role, pyarrow.string()) for role in roles}
    schema = pyarrow.schema([pyarrow.field(role, kind, nullable=False) for role, kind in kinds.items()])
    content = Content(roles)
    with pyarrow.parquet.ParquetWriter(ctx.out / DATA_FILE, schema, compression="zstd") as writer:
        for start in range(0, total, BATCH):
            batch = _decoded(table, start, min(start + BATCH, total), ctx)
            made = {role: content.take(role, batch[column], start + 1, column) for role, column in columns.items()}
            if form is not None:
                made["features"] = content.take_features(rows_of(batch, chosen.features, form, start + 1))
            arrays = [pyarrow.array(made[role], type=kinds[role]) for role in roles]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            ctx.progress.update(min(start + BATCH, total), total, "rows", "reading")
    return content


def _decoded(table: Any, start: int, end: int, ctx: Context) -> Any:
    """Return rows as Python's values. Texts are decoded here and not when the file is parsed: one may not be UTF-8."""
    try:
        return table[start:end]
    except UnicodeDecodeError as error:
        if end - start == 1:
            raise unparsable(ctx.source.name if ctx.source else "", f"row {start + 1}: {error}") from error
    for row in range(start, end):
        _decoded(table, row, row + 1, ctx)
    raise AssertionError("rows that can be read one by one can be read together")


def _quantiles(lengths: list[int]) -> dict[str, int]:
    if not lengths:
        return {}
    ordered = sorted(lengths)
    return {f"{share}%": ordered[round((len(ordered) - 1) * share / 100)] for share in (0, 5, 25, 50, 75, 95, 100)}

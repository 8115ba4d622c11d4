"""`still compare`."""

from __future__ import annotations

from typing import Any

import click

from stillhouse.entrypoints.options import console, emit, output_option

__all__ = ["command"]


@click.command()
@click.argument("a")
@click.argument("b")
@output_option
def command(a: str, b: str, output: str) -> None:
    """Compare two models or revisions figure by figure.

    A and B are names of models, or digests of revisions (their first letters are enough): `still status NAME -o json`
    lists a model's former ones under history.

    Figures stand with their 95 % intervals. A ~ behind the ratio: the intervals have values in common, so the difference is
    not told apart from none. Without ~ they have none, which chance alone rarely does. The rows' single answers are not
    kept: of two models on the same rows, small differences may be real and still have a ~. A gate with more rows tells more.

    \b
    Example:
      still compare docstring-search sha256:4f1c
    """
    from stillhouse.entrypoints.local.comparing import compare

    data = compare(a, b)

    def text() -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("", data["a"]["label"], data["b"]["label"], "B / A"):
            table.add_column(column, justify="left" if not column else "right")
        for row in data["rows"]:
            ratio = f"{row['ratio']:.3f}" if row["ratio"] is not None else ""
            ratio += " ~" if _same(row) else "  "
            table.add_row(row["name"], _cell(row["name"], row["a"]), _cell(row["name"], row["b"]), ratio)
        console().print(table)
        if any(_same(row) for row in data["rows"]):
            click.echo("~ the 95 % intervals have values in common: not told apart from no difference")

    emit(data, output, text)


def _same(row: dict[str, Any]) -> bool:
    """Return whether a figure's difference is not told apart from none. A size is counted: it is alike or it is not."""
    return row["apart"] is False and row["name"] != "size"


def _cell(name: str, value: Any) -> str:
    from stillhouse.entrypoints.local.text import size, spread

    if value is None:
        return "-"
    if isinstance(value, dict):
        return spread(name, value)
    return size(value) if name == "size" else str(value)

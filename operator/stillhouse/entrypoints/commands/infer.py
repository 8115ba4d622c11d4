"""`still infer`."""

from __future__ import annotations

import sys
from typing import Any

import click

from stillhouse.entrypoints.options import emit, name_argument, output_option

__all__ = ["command"]


@click.command()
@name_argument
@click.argument("texts", nargs=-1)
@click.option("-k", "top", type=click.IntRange(1, 100), default=5, show_default=True, help="How many search results.")
@click.option("--vector", is_flag=True, help="Print the embedding instead of search results.")
@output_option
def command(name: str, texts: tuple[str, ...], top: int, vector: bool, output: str) -> None:
    """Ask a running model.

    Texts are arguments, or lines of standard input, each with an answer of its own in the same order: an empty line is an
    empty text. For a model of images they are image files, of any size (see `source.image`); for one of
    tables or time series numbers with commas between them, or JSON. A classifier answers with
    labels and probabilities; a sentence embedding with the nearest rows of its index, or with the vector where it has none.

    \b
    Example:
      still infer docstring-search "Return the current working directory."
      still infer digits IMAGE.png
      still infer tumours < rows.jsonl
      cat questions.txt | still infer docstring-search -o json
    """
    from stillhouse.entrypoints.local.asking import ask
    from stillhouse.entrypoints.local.lines import lines_of
    from stillhouse.errors import UsageError

    asked = list(texts)
    if not asked and not sys.stdin.isatty():
        asked = lines_of(sys.stdin.buffer.read(), "standard input", blank=True)
        asked = asked if any(text.strip() for text in asked) else []
    if not asked:
        raise UsageError(
            "there is nothing to ask",
            field="TEXTS",
            fix=f'still infer {name} "…", or IMAGE.png or 1.2,3,… where the model takes images or numbers',
        )
    answers = ask(name, asked, top=top, vector=vector)

    def text() -> None:
        for answer in answers:
            _print(answer, many=len(answers) > 1)

    emit(answers, output, text)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_shown(each) for each in value)
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _print(answer: dict[str, Any], *, many: bool) -> None:
    if many:
        from stillhouse.entrypoints.local.numbers import shown_row

        click.secho(click.format_filename(shown_row(answer["text"])) or '""', bold=True)  # an image's name may be no UTF-8
    if "results" in answer:
        for result in answer["results"]:
            summary = result["text"].strip().splitlines()[0][:90]
            click.echo(f"  {result['score']:.3f}  {result['name']:<36} {summary}")
    elif "label" in answer:
        click.echo(f"  {answer['label']}")
        for label, probability in list(answer["probabilities"].items())[:5]:
            click.echo(f"    {probability:.3f}  {label}")
    else:
        click.echo("  " + " ".join(f"{value:.4f}" for value in answer["embedding"]))
    for name, value in answer.get("steps", {}).items():
        click.echo(f"  {name}: {_shown(value)}")
    provenance = answer.get("provenance") or {}
    if provenance.get("truncated"):
        click.secho(f"  note: the text was cut by {provenance['truncated']} tokens", fg="yellow", err=True)

"""`still ask`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from stillhouse.entrypoints.options import emit, name_argument, output_option

__all__ = ["command"]


@click.command()
@name_argument
@click.argument("texts", nargs=-1)
@click.option("--at", metavar="HOST:PORT", help="The gateway's address; left out, the one that still edge runs here.")
@click.option("--tls-authority", type=click.Path(path_type=Path), help="Whose certificate the gateway has.")
@click.option("--token", envvar="STILLHOUSE_TOKEN", help="Token of this client; better in $STILLHOUSE_TOKEN.")
@click.option("--key", metavar="KEY", help="Name of the request; asked again with it, a late answer is given (away: queue).")
@click.option("-k", "top", type=click.IntRange(1, 100), default=5, show_default=True, help="How many search results or labels.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True, help="Seconds.")
@output_option
def command(
    name: str,
    texts: tuple[str, ...],
    at: str | None,
    tls_authority: Path | None,
    token: str | None,
    key: str | None,
    top: int,
    timeout: float,
    output: str,
) -> None:
    """Ask a gateway, and show which model answered.

    Also how sure the small one was, and where the time went.
    Texts are arguments, or lines of standard input; for a model of images they are image files, for one of
    tables or time series numbers with commas between them, or JSON.
    A request that waits for the larger model is told with its key, and answered when it is asked again with --key KEY.

    \b
    Example:
      still ask packages "Parse the command line arguments" "Return a new array of zeros."
      cat questions.txt | still ask packages -o json
      STILLHOUSE_TOKEN=$(cat token) still ask packages --at edge.example:8101 --tls-authority ca.crt "Open a socket"
    """
    from stillhouse.entrypoints.edge.asking import Asked, ask
    from stillhouse.entrypoints.local.lines import lines_of
    from stillhouse.errors import UsageError

    asked = list(texts)
    if not asked and not sys.stdin.isatty():
        asked = [text for text in lines_of(sys.stdin.buffer.read(), "standard input", blank=True) if text.strip()]
    if not asked:
        raise UsageError("there is nothing to ask", field="TEXTS", fix=f'still ask {name} "…"')
    answers = ask(name, asked, Asked(at=at, authority=tls_authority, token=token, key=key, top=top, timeout_s=timeout))

    def text() -> None:
        for answer in answers:
            _print(answer, many=len(answers) > 1)
            if queued := answer["trace"].get("queued"):
                line = again(name, answer["text"], str(queued), at, tls_authority)
                click.echo(f"  the larger model's answer comes later; ask again then: {line}")

    emit(answers, output, text)


def again(name: str, text: str, key: str, at: str | None, authority: Path | None) -> str:
    """Return the line that asks for a late answer; a token is not repeated in it."""
    where = [*(["--at", at] if at else []), *(["--tls-authority", str(authority)] if authority else [])]
    end = "-- " if text.startswith("-") else ""
    return f"still ask {shlex.join([name, *where, '--key', key])} {end}{shlex.quote(text)}"


def _print(answer: dict[str, Any], *, many: bool) -> None:
    if many:
        from stillhouse.entrypoints.local.numbers import shown_row

        click.secho(click.format_filename(shown_row(answer["text"])), bold=True)
    for name, score in answer.get("results", []):
        click.echo(f"  {score:.3f}  {name}")
    if "label" in answer:
        click.echo(f"  {answer['label']}")
        for label, probability in answer["probabilities"].items():
            click.echo(f"    {probability:.3f}  {label}")
    if "embedding" in answer:
        click.echo("  " + " ".join(f"{value:.4f}" for value in answer["embedding"][:8]) + " …")
    for name, value in answer.get("steps", {}).items():
        values = value if isinstance(value, list) else [value]
        click.echo(f"  {name}: " + " ".join(f"{each:.4f}" if isinstance(each, float) else str(each) for each in values))
    click.secho("  " + answer["said"], dim=True)

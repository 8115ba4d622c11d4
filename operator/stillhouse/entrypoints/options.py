"""Options that several commands share, and how data is printed."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from stillhouse.errors import StillhouseError, UsageError

__all__ = [
    "chosen_output",
    "cluster_options",
    "console",
    "emit",
    "file_argument",
    "name_argument",
    "output_option",
    "parse_sources",
    "source_option",
]

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
_OUTPUT = "stillhouse.output"
F = TypeVar("F", bound=Callable[..., Any])


def output_option(function: F) -> F:
    """Add `-o text|json|yaml`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        show_default=True,
        is_eager=True,  # known before anything else on the line is found wrong
        callback=_choose_output,
        help="How to print.",
    )(function)


def _choose_output(ctx: click.Context, param: click.Parameter, value: str) -> str:
    ctx.meta[_OUTPUT] = value  # one mapping for all contexts of a call
    return value


def chosen_output(ctx: click.Context) -> str:
    """Return how the command that was called prints; text until it is known, and where it has no choice."""
    output: str = ctx.meta.get(_OUTPUT, "text")
    return output


def source_option(function: F) -> F:
    """Add `--source kind:name=URI`, several times."""
    return click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="KIND:NAME=URI",
        help="Bind a named source, for example models:minilm=file:///models/minilm. Goes before stillhouse.yaml.",
    )(function)


def cluster_options(function: F) -> F:
    """Add `--context` and `--namespace`."""
    words = "Context of the kubeconfig: the model is the one of that cluster. An empty one is the current context."
    with_context = click.option("--context", default=None, metavar="CONTEXT", help=words)(function)
    return click.option("-n", "--namespace", default="default", show_default=True, help="Namespace in the cluster.")(with_context)


def file_argument(function: F) -> F:
    """Add the argument FILE; errors about what stands in it name it."""

    @functools.wraps(function)
    def naming(*arguments: Any, file: Path, **options: Any) -> Any:
        try:
            return function(*arguments, file=file, **options)
        except StillhouseError as error:
            error.within(str(file))
            raise

    return cast("F", click.argument("file", type=click.Path(path_type=Path))(naming))


def _complete_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.settings import load_settings

    return [name for name in LocalStore(load_settings().home).model_names() if name.startswith(incomplete)]


def name_argument(function: F) -> F:
    """Add the argument NAME, completed from the store."""
    return click.argument("name", shell_complete=_complete_names)(function)


def parse_sources(values: tuple[str, ...]) -> dict[str, str]:
    """Split `kind:name=URI`.

    Raises:
        UsageError: a value has another form.
    """
    found = {}
    for value in values:
        name, separator, uri = value.partition("=")
        if not separator or ":" not in name or not uri:
            raise UsageError(
                "a source is bound as KIND:NAME=URI", field="--source", found=value, allowed="models:minilm=file:///models/minilm"
            )
        found[name] = uri
    return found


def console() -> Console:
    """Return a console as wide as the terminal; pipes and files have no width to fit into."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process with 1; whoever reads no more has had enough

    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Pipe(highlight=False, width=None if known else PIPE_WIDTH)


def emit(data: Any, output: str, text: Callable[[], None]) -> None:
    """Print `data` as JSON or YAML, or call `text` to print it for people."""
    if output == "json":
        # What UTF-8 has no form for (a file's name in another encoding) is escaped, as JSON writes it.
        document = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
        click.echo(document.encode("utf-8", "backslashreplace").decode())
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), nl=False)
    else:
        text()

"""`still lint`."""

from __future__ import annotations

from pathlib import Path

import click

from stillhouse.entrypoints.options import emit, file_argument, output_option, parse_sources, source_option

__all__ = ["command"]


@click.command()
@file_argument
@source_option
@click.option("--no-sources", is_flag=True, help="Check the file alone, not whether its sources can be found.")
@output_option
def command(file: Path, sources: tuple[str, ...], no_sources: bool, output: str) -> None:
    """Check a file without building.

    Every problem of the file, and what columns and config.json of its sources tell, is named with its line, what was found,
    what is allowed and the fix. Exit code 2 when there is one. What only rows and weights tell, the build refuses.
    Of a file whose gateway runs steps alone (spec.edge.preprocess) nothing is built, and its sources are not looked at.
    What is allowed but cannot end well is a warning; the exit code stays 0.

    \b
    Example:
      still lint distilledmodel.yaml
      still lint --no-sources distilledmodel.yaml
    """
    from stillhouse.api.load import load_with_lines
    from stillhouse.clients.store.local import LocalStore
    from stillhouse.entrypoints.local.advice import advice
    from stillhouse.entrypoints.local.circles import refuse_circle
    from stillhouse.entrypoints.local.patterns import refuse_patterns
    from stillhouse.settings import load_settings

    model, lines = load_with_lines(file)
    steps_alone = model.spec.edge is not None and model.spec.edge.preprocess is not None
    if no_sources or steps_alone:
        refuse_patterns(model, lines)
        if not no_sources:
            refuse_circle(model, file, LocalStore(load_settings(file.resolve().parent).home), lines)
        warnings = advice(model)
    else:
        from stillhouse.entrypoints.local.display import showing
        from stillhouse.entrypoints.local.workspace import open_file

        with showing() as listener, listener.busy("sources") as progress:
            work = open_file(file, parse_sources(sources), progress)
        model, warnings = work.model, advice(work.model, work.env)
    name = model.metadata.name

    def text() -> None:
        alone = "; its gateway runs steps alone, so its sources were not looked at" if steps_alone and not no_sources else ""
        click.echo(f"{file}: {name} is valid{alone}")
        for warning in warnings:
            click.echo(f"warning: {warning}")

    emit({"name": name, "valid": True, "warnings": warnings}, output, text)

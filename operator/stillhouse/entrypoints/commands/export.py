"""`still export`."""

from __future__ import annotations

from pathlib import Path

import click

from stillhouse.entrypoints.options import emit, file_argument, output_option, parse_sources, source_option

__all__ = ["FORMATS", "command"]

FORMATS = ("openvino", "litert", "coreml", "tensorrt")
"""As `api.export` has them, which help does not load; a test compares the two."""


@click.command()
@file_argument
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Left out: those of spec.export.")
@click.option("--precision", type=click.Choice(["fp32", "fp16"]), help="With --format: in which the weights are kept.")
@click.option("--batch", type=click.IntRange(1, 1024), help="With --format: rows of a call, where its shape is fixed.")
@click.option("--tokens", type=click.IntRange(1, 8192), help="With --format: tokens of a row, where its shape is fixed.")
@click.option(
    "-d", "--dir", "out", type=click.Path(path_type=Path), default=Path(), help="Folder to write into; here if left out."
)
@source_option
@output_option
def command(
    file: Path,
    formats: tuple[str, ...],
    precision: str | None,
    batch: int | None,
    tokens: int | None,
    out: Path,
    sources: tuple[str, ...],
    output: str,
) -> None:
    """Write a model in formats of other runtimes.

    Each is checked against the ONNX model's answers where its runtime is here. What has not been built yet is built first, up to
    the FP32 model; no gate runs. A folder NAME-FORMAT holds the model, its signature, its tokenizer, and a receipt.

    \b
    Example:
      still export distilledmodel.yaml --format openvino
      still export distilledmodel.yaml --format tensorrt --precision fp16 --batch 32 --dir engines
    """
    from stillhouse.entrypoints.local.building import holding
    from stillhouse.entrypoints.local.display import showing
    from stillhouse.entrypoints.local.exporting import Asked, export
    from stillhouse.entrypoints.local.text import size
    from stillhouse.entrypoints.local.workspace import open_file

    asked = Asked(formats, precision, batch, tokens)
    with showing() as listener:
        with listener.busy("sources") as progress:
            work = open_file(file, parse_sources(sources), progress)
        with holding(work.store, work.name, listener):
            made = export(work, asked, out, listener)

    def text() -> None:
        for each in made:
            facts = each["facts"]
            click.echo(f"{each['folder']}: {facts['format']}, {facts['precision']}, {size(facts['size'])}, {each['digest']}")
            if facts["checked"] == "run":
                found = f"{facts['max_abs_error']:.3g} at most, cosine {facts['min_cosine']:.6f} at least, {facts['rows']} rows"
                click.echo(f"  against the ONNX model: differs by {found}")
            elif facts["checked"] == "structure":
                click.echo("  its inputs, output and operators were read back; it runs on other machines only")
            else:
                click.echo("  run build-engine.sh in it on the machine that will serve")

    emit({"name": work.name, "exports": made}, output, text)

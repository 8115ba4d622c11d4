"""`still crd`."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Print the CustomResourceDefinitions, generated from the models that `still` itself validates with.

    \b
    Example:
      still crd | kubectl apply --server-side -f -
    """
    from stillhouse.api.crd import render, render_revision

    click.echo(f"{render()}---\n{render_revision()}", nl=False)

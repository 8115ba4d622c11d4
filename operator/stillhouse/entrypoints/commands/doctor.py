"""`still doctor`."""

from __future__ import annotations

import sys

import click

from stillhouse.entrypoints.options import emit, output_option

__all__ = ["command"]


@click.command()
@output_option
def command(output: str) -> None:
    """Check this machine; every failure comes with its fix. Exit code 5 when something is missing.

    \b
    Example:
      still doctor
    """
    from stillhouse.entrypoints.local.examining import examine

    findings = examine()

    def text() -> None:
        marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}
        for finding in findings:
            mark, colour = marks[finding["state"]]
            click.secho(f"{mark} ", fg=colour, nl=False)
            click.echo(f"{finding['title']}: {finding['detail']}")
            if finding["state"] != "ok" and finding["fix"]:
                click.echo(f"    fix: {finding['fix']}")

    emit(findings, output, text)
    if any(finding["state"] == "failed" for finding in findings):
        sys.exit(5)

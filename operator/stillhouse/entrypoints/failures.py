"""Errors as data: what `-o json` and `-o yaml` print of a command that cannot be carried out."""

from __future__ import annotations

from typing import Any

import click

from stillhouse.errors import Problem, StillhouseError, UsageError

__all__ = ["as_data"]


def as_data(error: StillhouseError | click.ClickException) -> dict[str, Any]:
    """Return an error as plain data, its problems in the five parts that the text has, with the line by itself."""
    if isinstance(error, click.ClickException):
        problems = [_problem(Problem(error.format_message()))]
        return {"error": UsageError.reason, "exitCode": error.exit_code, "problems": problems}
    return {"error": error.reason, "exitCode": error.exit_code, "problems": [_problem(each) for each in error.problems]}


def _problem(problem: Problem) -> dict[str, Any]:
    """Return the parts in the order in which they are printed; the column is for people's eyes."""
    return {name: getattr(problem, name) for name in ("field", "line", "found", "allowed", "fix", "message")}

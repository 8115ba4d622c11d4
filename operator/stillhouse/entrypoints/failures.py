"""Errors as data: what `-o json` and `-o yaml` print of a command that cannot be carried out."""

from __future__ import annotations

import re
from typing import Any

import click

from stillhouse.errors import StillhouseError, UsageError

__all__ = ["as_data"]

_LINE = re.compile(r"(?P<before>.*?) \(line (?P<line>\d+)\)(?P<after>.*)", re.DOTALL)  # of a field that was read
_MARK = re.compile(r"(?P<before>.*):(?P<line>\d+):\d+(?P<after>)", re.DOTALL)  # file:line:column, of what is no YAML


def as_data(error: StillhouseError | click.ClickException) -> dict[str, Any]:
    """Return an error as plain data, its problems in the five parts that the text has, with the line by itself."""
    if isinstance(error, click.ClickException):
        problems = [_problem(error.format_message(), "", "", "", "")]
        return {"error": UsageError.reason, "exitCode": error.exit_code, "problems": problems}
    problems = [_problem(each.message, each.field, each.found, each.allowed, each.fix) for each in error.problems]
    return {"error": error.reason, "exitCode": error.exit_code, "problems": problems}


def _problem(message: str, field: str, found: str, allowed: str, fix: str) -> dict[str, Any]:
    match = _LINE.fullmatch(field) or _MARK.fullmatch(field)
    return {
        "field": match["before"] + match["after"] if match else field,
        "line": int(match["line"]) if match else None,
        "found": found,
        "allowed": allowed,
        "fix": fix,
        "message": message,
    }

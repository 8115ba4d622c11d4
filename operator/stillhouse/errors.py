"""The error tree.

StillhouseError
├── UserError                  exit 2: the file, the data or the command line is wrong
│   ├── SpecError              the resource does not say what it must
│   │   └── NotAvailable       a field that a later version implements
│   ├── SourceError            a model or data URI cannot be used
│   │   └── UnsafeSource       it could run code or reach outside its directory
│   ├── DataError              rows, columns or splits are not what the task needs
│   └── UsageError             a command cannot be carried out as asked
├── GateError
│   ├── GateFailed             exit 3: a limit was missed
│   └── GateInconclusive       exit 4: too noisy to tell
└── EnvironmentProblem         exit 5: the machine, not the file
    ├── StoreError             the store cannot be written or is damaged beyond rebuilding
    ├── ServerError            the embedded server does not start or died
    │   └── QueueRefusal       it runs, and its queue policy refused a request
    ├── ClusterError           the API server refuses, or does not answer
    ├── WorkerLost             exit 75: of the workers that train together one is gone; another attempt may go on
    └── MissingPackages        an extra is not installed

Anything else that escapes is a bug in Stillhouse: exit 1, with a traceback.
Ctrl-C ends with 130.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

__all__ = [
    "ClusterError",
    "DataError",
    "EnvironmentProblem",
    "GateError",
    "GateFailed",
    "GateInconclusive",
    "MissingPackages",
    "NotAvailable",
    "Problem",
    "QueueRefusal",
    "ServerError",
    "SourceError",
    "SpecError",
    "StillhouseError",
    "StoreError",
    "UnsafeSource",
    "UsageError",
    "UserError",
    "WorkerLost",
]

RESOURCE_FIELDS = ("apiVersion", "kind", "metadata", "spec")
"""The fields that a resource has at its top; every other field of a problem is an option, a column or a path."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in the five parts that a user needs to mend it.

    `line`, `column`: where `field` stands in the file that was read, from 1; None where no file says it. A column is known
    of what is no YAML, and `field` is the file then. `file`: the file that `field` is a part of, where a command was given one.
    """

    message: str
    field: str = ""
    found: str = ""
    allowed: str = ""
    fix: str = ""
    line: int | None = None
    column: int | None = None
    file: str = ""

    @property
    def place(self) -> str:
        """Give the field and where it stands, as text."""
        field = f"{self.file}: {self.field}" if self.file else self.field
        if self.line is None:
            return field
        return f"{field} (line {self.line})" if self.column is None else f"{field}:{self.line}:{self.column}"

    @property
    def of_resource(self) -> bool:
        """Say whether `field` is one of a resource's: one of its own, or one that it has without being allowed to."""
        return self.field.partition(".")[0] in RESOURCE_FIELDS or (self.line is not None and self.column is None)

    def lines(self) -> list[str]:
        """Render as lines of text, the message first."""
        head = f"{self.place}: {self.message}" if self.field else self.message
        parts = [("found", self.found), ("allowed", self.allowed), ("fix", self.fix)]
        return [head, *(f"  {name + ':':<9}{text}" for name, text in parts if text)]


class StillhouseError(Exception):
    """Root of every error that Stillhouse raises on purpose."""

    exit_code = 1
    reason = "Error"

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        found: str = "",
        allowed: str = "",
        fix: str = "",
        others: tuple[Problem, ...] = (),
    ) -> None:
        self.problem = Problem(message, field, found, allowed, fix)
        self.others = others
        super().__init__(message)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> Self:
        """Make an error of this kind out of problems, at least one."""
        error = cls(problems[0].message)
        error.problem, error.others = problems[0], tuple(problems[1:])
        return error

    def within(self, file: str) -> None:
        """Note which file the fields of a resource stand in, for those who read about more than one."""
        self.problem, *others = (replace(each, file=file) if each.of_resource else each for each in self.problems)
        self.others = tuple(others)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Every problem found, the first one first."""
        return (self.problem, *self.others)

    def __str__(self) -> str:
        return "\n".join(line for problem in self.problems for line in problem.lines())


class UserError(StillhouseError):
    """The user can mend it in the file, the data or the command line."""

    exit_code = 2
    reason = "InvalidInput"


class SpecError(UserError):
    """The resource does not say what it must."""

    reason = "InvalidSpec"


class NotAvailable(SpecError):
    """The field is part of the API but not implemented in this version."""

    reason = "NotAvailable"


class SourceError(UserError):
    """A model or data URI cannot be used."""

    reason = "SourceUnusable"


class UnsafeSource(SourceError):
    """The source could run code or reach outside its directory."""

    reason = "SourceUnsafe"


class DataError(UserError):
    """Rows, columns or splits are not what the task needs."""

    reason = "DataInvalid"


class UsageError(UserError):
    """A command cannot be carried out as asked."""

    reason = "Usage"


class GateError(StillhouseError):
    """No candidate passed the gate; `report` holds every candidate's figures as JSON data."""

    report: list[dict[str, Any]]


class GateFailed(GateError):
    """A limit was missed; the former version goes on serving."""

    exit_code = 3
    reason = "GateFailed"


class GateInconclusive(GateError):
    """The figures were too noisy to tell; the former version goes on serving."""

    exit_code = 4
    reason = "GateInconclusive"


class EnvironmentProblem(StillhouseError):
    """The machine, not the file, is in the way."""

    exit_code = 5
    reason = "Environment"


class StoreError(EnvironmentProblem):
    """The store cannot be written, or is damaged beyond rebuilding."""

    reason = "Store"


class StoreFull(StoreError):
    """The disk of the store is full, or its quota is used up."""

    reason = "StoreFull"


class ServerError(EnvironmentProblem):
    """The embedded server does not start, or died."""

    reason = "Server"


class QueueRefusal(ServerError):
    """The server runs, and its queue policy did not let a request in (or through); `limit` is what it met."""

    limit: Literal["size", "timeout"]


class ClusterError(EnvironmentProblem):
    """The API server refuses, or does not answer."""

    reason = "ClusterError"


class WorkerLost(EnvironmentProblem):
    """Of the workers that train together one did not come, went, or was asked to stop: this one alone cannot go on."""

    exit_code = 75
    """EX_TEMPFAIL of sysexits.h. A Job does not count it: what it counts is the end of the worker that is gone."""
    reason = "WorkerLost"


class MissingPackages(EnvironmentProblem):
    """An extra of the package is not installed."""

    reason = "MissingPackages"

"""The expressions of a guard, read as the gateway will read them: that is after all training, and on another machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from stillhouse.api.explain import line_of
from stillhouse.api.model import DistilledModel
from stillhouse.edge.guard.patterns import Patterns, Rule
from stillhouse.errors import MissingPackages, Problem, SpecError

__all__ = ["refuse_patterns", "wrong_patterns"]

_FIELD = "spec.edge.guard.patterns"


def refuse_patterns(model: DistilledModel, lines: Mapping[str, int]) -> None:
    """Hold patterns against RE2's syntax. `lines`: field → line of the file.

    Raises:
        SpecError: some are none; each is named.
    """
    if problems := wrong_patterns(model):
        raise SpecError.of([dataclasses.replace(each, line=line_of(each.field, lines)) for each in problems])


def wrong_patterns(model: DistilledModel) -> list[Problem]:
    """Return what is wrong with the patterns of a model's guard; nothing is said where RE2 is not installed."""
    guard = model.spec.edge.guard if model.spec.edge else None
    rules = [Rule(each.name, each.action, each.regex or "", each.named or "") for each in (guard.patterns if guard else ())]
    found = []
    for position, rule in enumerate(rules):
        others = [Rule(each.name, each.action, named="email") for each in rules[:position]]  # a name stands once
        try:
            Patterns([*others, rule], _FIELD)
        except MissingPackages:
            return []
        except SpecError as error:
            if error.problem.field.startswith(f"{_FIELD}[{position}]"):  # else it has been said of that one
                field = error.problem.field.replace(".expression", ".regex")
                found.append(dataclasses.replace(error.problem, field=field))
    return found

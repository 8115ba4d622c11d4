"""docs/troubleshooting.md speaks of reasons and fields that there are, and of every reason that asks somebody to act."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stillhouse.api.model import Spec
from stillhouse.api.schema import structural
from stillhouse.api.status import CONDITION_TYPES, REASONS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
WELL = {"Accepted", "Built", "GatePassed", "NoGate", "Serving", "Pinned", "GatewayServes", "WithinBounds"}
"""Reasons of which nobody has to do anything."""
SEEN_ELSEWHERE = {"OlderRevisionServes", "GatewayDown", "ServerDown"}
"""Two are the laptop's; the other always has a reason of `Ready` beside it."""


def test_every_reason_that_asks_somebody_to_act_has_its_place() -> None:
    assert {reason for reason in REASONS if f"`{reason}`" not in PAGE} == WELL | SEEN_ELSEWHERE


def test_no_reason_is_invented() -> None:
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", PAGE))
    assert named <= REASONS.keys() | CONDITION_TYPES.keys(), named - REASONS.keys()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`spec\.([A-Za-z.]+)`", PAGE))))
def test_every_field_is_one_of_the_api(path: str) -> None:
    schema = structural(Spec, "spec")
    for part in path.split("."):
        assert part in schema["properties"], path
        schema = schema["properties"][part]


def test_the_readme_leads_there() -> None:
    assert "(docs/troubleshooting.md)" in (ROOT / "README.md").read_text()

"""The CRD as data: what Kubernetes' conventions and limits ask for, at every place of the schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from stillhouse import errors
from stillhouse.api.base import ApiModel
from stillhouse.api.crd import crd, render
from stillhouse.api.generate import GENERATED, write
from stillhouse.api.model import DistilledModel, Spec
from stillhouse.api.reference import render_markdown
from stillhouse.api.schema import reserved_names, structural
from stillhouse.api.status import CONDITION_TYPES, REASONS

ROOT = Path(__file__).parents[3]
CLIENT_SIDE_APPLY_LIMIT = 262_144  # bytes of the annotation that `kubectl apply` writes: the object as JSON

Place = tuple[str, dict[str, Any]]


def places(schema: dict[str, Any], path: str) -> Iterator[Place]:
    """Every schema below one, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from places(inner, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if key in schema:
            yield from places(schema[key], path + mark)


def version() -> dict[str, Any]:
    (only,) = crd()["spec"]["versions"]
    return dict(only)


def described(part: str) -> list[Place]:
    return list(places(version()["schema"]["openAPIV3Schema"]["properties"][part], part))


EVERYWHERE = [*described("spec"), *described("status")]


@pytest.mark.parametrize("name", GENERATED)
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run `make generate`"


def test_writing_changes_only_what_differs(tmp_path: Path) -> None:
    assert len(write(tmp_path)) == len(GENERATED)
    assert write(tmp_path) == []

    (tmp_path / "crds" / "stillhouse.io_distilledmodels.yaml").write_text("changed by hand")
    assert [path.name for path in write(tmp_path)] == ["stillhouse.io_distilledmodels.yaml"]


def test_the_text_is_the_data_and_small_enough() -> None:
    assert yaml.safe_load(render()) == crd()
    assert len(json.dumps(crd(), separators=(",", ":")).encode()) < CLIENT_SIDE_APPLY_LIMIT
    assert render() == render()


def test_nothing_is_left_of_json_schema_that_is_not_structural() -> None:
    forbidden = {"$ref", "anyOf", "oneOf", "allOf", "not", "title", "const", "nullable", "exclusiveMinimum", "uniqueItems"}
    for path, place in EVERYWHERE:
        assert not forbidden & place.keys(), path
        assert "type" in place or place.get("x-kubernetes-int-or-string"), path
        if "properties" in place:
            assert place.get("additionalProperties") is None, path
            assert set(place.get("required", [])) <= place["properties"].keys(), path


def test_every_field_is_described() -> None:
    for path, place in EVERYWHERE:
        if not path.endswith(("[]", ".*")):
            assert len(place["description"]) > 5, path
            assert "\n" not in place["description"], path


def test_everything_that_can_grow_has_a_limit() -> None:
    for path, place in EVERYWHERE:
        kind = place.get("type")
        if kind == "string" or place.get("x-kubernetes-int-or-string"):
            assert "maxLength" in place or "enum" in place, path
        elif kind == "array":
            assert "maxItems" in place, path
        elif "additionalProperties" in place:
            assert "maxProperties" in place, path


def test_no_number_has_a_fraction() -> None:
    assert not [path for path, place in EVERYWHERE if place.get("type") == "number"]
    assert all(
        place["format"] in {"int32", "int64"} for _, place in EVERYWHERE if place.get("type") == "integer" and "format" in place
    )


def test_patterns_are_of_the_syntax_that_go_and_python_share() -> None:
    """RE2 has no look-around, back references or possessive quantifiers; \\w and \\d mean more to Python than to Go."""
    patterns = {place["pattern"] for _, place in EVERYWHERE if "pattern" in place}

    assert len(patterns) > 8
    for pattern in patterns:
        re.compile(pattern)
        assert not re.search(r"\(\?|\\[0-9wWdDsSbBAZ]|[*+?}]\+", pattern), pattern
        assert pattern.startswith("^"), pattern
        assert pattern.endswith("$"), pattern


def test_every_list_says_how_it_is_merged() -> None:
    kinds = {path: place["x-kubernetes-list-type"] for path, place in EVERYWHERE if place.get("type") == "array"}

    assert kinds.pop("status.conditions") == "map"
    assert kinds.pop("spec.source.labels") == "set"
    assert kinds.pop("spec.source.features.columns") == "set"
    assert set(kinds.values()) == {"atomic"}
    conditions = dict(EVERYWHERE)["status.conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert "type" in conditions["items"]["required"]


def test_rules_point_to_fields_that_exist() -> None:
    count = 0
    for path, place in EVERYWHERE:
        for rule in place.get("x-kubernetes-validations", []):
            count += 1
            target: dict[str, Any] = place
            for name in rule.get("fieldPath", "").split(".")[1:]:
                assert name in target["properties"], (path, rule)
                target = target["properties"][name]
            assert 0 < len(rule["message"]) <= 2048
            assert "\n" not in rule["message"]
    assert count > 40


def test_reserved_names_are_refused_by_a_rule() -> None:
    schemas = dict(EVERYWHERE)
    names = list(reserved_names(schemas["spec"], "spec"))

    assert len(names) == 6
    for path, _ in names:
        parent, _, name = path.rpartition(".")
        rules = {rule["rule"]: rule for rule in schemas[parent]["x-kubernetes-validations"]}
        assert rules[f"!has(self.{name})"]["message"].startswith(f"{path} is not available in this version")


def test_only_the_spec_has_defaults() -> None:
    assert [path for path, place in described("spec") if "default" in place]
    assert not [path for path, place in described("status") if "default" in place]


def test_names_subresources_and_columns() -> None:
    names = crd()["spec"]["names"]
    subresources = version()["subresources"]
    columns = version()["additionalPrinterColumns"]

    assert names["shortNames"] == ["dm"]
    assert crd()["metadata"]["name"] == f"{names['plural']}.{crd()['spec']['group']}"
    assert subresources["status"] == {}
    fields = dict(EVERYWHERE)
    for path in subresources["scale"].values():
        assert path.removeprefix(".") in fields
    for column in columns:
        head = re.split(r"\[\?", column["jsonPath"].removeprefix("."))[0]
        assert head in fields or head == "metadata.creationTimestamp", column
    asked = {found for column in columns for found in re.findall(r'@\.type=="(\w+)"', column["jsonPath"])}
    assert asked <= CONDITION_TYPES.keys()


def test_a_build_is_seen_without_asking_for_more_on_a_terminal_of_120_columns() -> None:
    shown = [column for column in version()["additionalPrinterColumns"] if not column.get("priority")]
    paths = {column["name"]: column["jsonPath"] for column in shown}
    building = {
        "Name": "docstring-search", "Gate": "Unknown", "Replicas": "0", "Available": "False", "Ready": "False",
        "Status": "Building", "Age": "11m", "Progress": "resolve: starting",
    }  # fmt: skip
    columns = ["Name", *paths]
    wide = sum(max(len(name), len(building.get(name, ""))) + 3 for name in columns[:-1])  # kubectl puts three blanks between

    assert paths["Progress"] == ".status.progress"
    assert paths["Status"] == '.status.conditions[?(@.type=="Ready")].reason'
    assert columns[-1] == "Progress", "what has no certain width moves no other column"
    assert wide + len(building["Progress"]) <= 120


def test_what_has_no_structural_form_is_refused_while_generating() -> None:
    class Undecided(ApiModel):
        """Two types at one place."""

        value: Annotated[int | str, Field()] = 0
        """Text or a number."""

    with pytest.raises(NotImplementedError, match="alternatives between types"):
        structural(Undecided, "spec")


def test_no_exit_code_stands_twice_with_one_reason() -> None:
    table = render_markdown().partition("## Exit codes")[2].partition("###")[0]
    rows = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in table.splitlines() if line.startswith("| ")][2:]
    assert ("5", "`Server`") in rows
    assert len(rows) == len(set(rows))


def test_the_reference_names_every_field_condition_reason_and_exit_code() -> None:
    text = render_markdown()

    for path, place in EVERYWHERE:
        if "properties" in place:
            assert f"### `{path}`\n" in text
    for name in {name for _, place in EVERYWHERE for name in place.get("properties", {})}:
        assert f"`{name}`" in text or f".{name}`" in text, name
    for name in (*CONDITION_TYPES, *REASONS):
        assert f"| `{name}` |" in text
    for kind, code in (
        (errors.UserError, 2),
        (errors.GateFailed, 3),
        (errors.GateInconclusive, 4),
        (errors.EnvironmentProblem, 5),
    ):
        assert f"| {code} | `{kind.reason}` |" in text
    assert "| 130 |" in text


def test_every_reason_of_a_users_mistake_is_a_documented_reason_of_the_status() -> None:
    for kind in (errors.SpecError, errors.NotAvailable, errors.SourceError, errors.UnsafeSource, errors.DataError):
        assert kind.reason in REASONS
    assert errors.GateFailed.reason in REASONS
    assert errors.GateInconclusive.reason in REASONS


def test_every_model_is_reached_and_documented() -> None:
    assert DistilledModel.__doc__
    assert structural(Spec, "spec") == structural(Spec, "spec")

"""The reference of the resource as Markdown, from the same schema as the CRD: fields, conditions, reasons, exit codes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

from stillhouse import errors
from stillhouse.api.crd import crd
from stillhouse.api.explain import WRITTEN_AS
from stillhouse.api.model import API_VERSION, KIND
from stillhouse.api.schema import Schema, reserved_names
from stillhouse.api.status import CONDITION_TYPES, REASONS

__all__ = ["FILE_NAME", "render_markdown"]

FILE_NAME = "distilledmodel.md"
"""Name of the generated file in `docs/reference/`."""

_HEADER = f"""\
<!-- Generated from operator/stillhouse/api by `make generate`: change the models there, not this file. -->
# {KIND} ({API_VERSION})

A field that is null counts as left out. Numbers with a fraction and everything with a unit are text; YAML needs quotes
around those that look like numbers.
"""

_ERRORS_AS_DATA = """
### Errors as data

With `-o json` or `-o yaml` an error is a document on standard output, where the data would have been, so that standard
output is one document whether or not a command succeeds (as `terraform validate -json` and the linters do it). The text for
people stays on standard error, where progress is told as well.

```json
{
 "error": "InvalidSpec",
 "exitCode": 2,
 "problems": [
  {
   "field": "spec.compress.precision",
   "line": 6,
   "found": "int9",
   "allowed": "'auto', 'fp32', 'int8', 'int4' or 'mixed'",
   "fix": "write int8",
   "message": "is not one of the allowed values"
  }
 ]
}
```

`error` is a reason of the table above; every problem has all six keys, with `""` where there is nothing to say and `null`
where no line is known. There is no document for an option that does not exist (the text alone says so), for a mistake in
Stillhouse itself and for Ctrl-C.
"""


def render_markdown() -> str:
    """Return the text of `docs/reference/distilledmodel.md`, the same on every call."""
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    parts = [_HEADER, "## Fields\n"]
    described: dict[str, str] = {}
    for name in ("spec", "status"):
        parts += [_section(path, each, described) for path, each in _objects(schema[name], name)]
    parts += [_names(schema["spec"]), _conditions(), _exit_codes()]
    return "\n".join(parts)


def _objects(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Yield every described object, from the outside in."""
    yield path, schema
    for name, field in schema["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            yield from _objects(inner, f"{path}.{name}{'[]' if 'items' in field else ''}")


def _section(path: str, schema: Schema, described: dict[str, str]) -> str:
    """Describe an object; where the same fields were described before, refer to there."""
    head = f"### `{path}`\n\n{schema['description']}\n"
    table = _table(schema)
    if table in described:
        return f"{head}\nFields and rules as in `{described[table]}`.\n"
    described[table] = path
    return f"{head}\n{table}"


def _table(schema: Schema) -> str:
    required = schema.get("required", [])
    kept_free = {name for name, _ in reserved_names(schema, "")}
    rows = [
        (
            f"`{name}`" + (" (required)" if name in required else ""),
            _type(field),
            _default(field),
            _limits(field),
            _text(field["description"]),
        )
        for name, field in schema["properties"].items()
        if f".{name}" not in kept_free
    ]
    said = [rule["message"] for rule in schema.get("x-kubernetes-validations", []) if "is not available" not in rule["message"]]
    rules = "".join(f"- {message}\n" for message in dict.fromkeys(said))
    table = _markdown(("field", "type", "default", "limits", "meaning"), rows)
    return f"{table}\nRules, as a refusal says them:\n\n{rules}" if rules else table


def _type(field: Schema) -> str:
    if "items" in field:
        return f"list of {_type(field['items'])}"
    if "additionalProperties" in field:
        return f"map of name → {_type(field['additionalProperties'])}"
    if "x-kubernetes-int-or-string" in field:
        return "text or whole number"
    if "enum" in field:
        return " \\| ".join(f"`{value}`" for value in field["enum"])
    return {"string": "text", "integer": "whole number", "boolean": "`true` \\| `false`", "object": "mapping"}[field["type"]]


def _default(field: Schema) -> str:
    if "default" not in field:
        return ""
    if field["default"] == {} or "properties" in field:
        return "the defaults inside" if "properties" in field else "empty"
    return "empty" if field["default"] == [] else f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def _limits(field: Schema) -> str:
    if "items" in field:
        inner = _limits(field["items"]) if "properties" not in field["items"] else ""
        least = f"{field['minItems']} to " if "minItems" in field else "at most "
        return f"{least}{field['maxItems']} items" + (f"; each: {inner}" if inner else "")
    if "additionalProperties" in field:
        return f"at most {field['maxProperties']} names"
    found = []
    if "minimum" in field and "maximum" in field:
        found.append(f"{field['minimum']} to {field['maximum']}")
    elif "minimum" in field:
        found.append(f"at least {field['minimum']}")
    if "pattern" in field:
        pattern = field["pattern"]
        found.append(_text(WRITTEN_AS[pattern]) if pattern in WRITTEN_AS else f"`{_text(pattern)}`")
    if "maxLength" in field:
        least = f"{field['minLength']} to" if "minLength" in field else "at most"
        found.append(f"{least} {field['maxLength']} characters")
    if "format" in field and field["type"] == "string":
        found.append(field["format"])
    return "; ".join(found)


def _names(spec: Schema) -> str:
    rows = [(f"`{path}`", what) for path, what in reserved_names(spec, "spec")]
    return (
        '## Names kept free\n\nSettled, not implemented: their use is refused as "not available in this version".\n\n'
        + _markdown(("field", "for"), rows)
    )


def _conditions() -> str:
    return (
        "## Conditions\n\nAs `metav1.Condition`; `status.conditions` holds at most one of each type.\n\n"
        + _markdown(("type", "True when"), [(f"`{name}`", text) for name, text in CONDITION_TYPES.items()])
        + "\n## Reasons\n\n"
        + _markdown(("reason", "meaning"), [(f"`{name}`", text) for name, text in REASONS.items()])
    )


def _exit_codes() -> str:
    tree = sorted(_errors_below(errors.StillhouseError), key=lambda each: each.exit_code)
    rows = [("0", "", "done, and every limit was met")]
    rows += [("1", "", "a mistake in Stillhouse itself; its traceback is in the file that is named: please report it")]
    rows += [(str(each.exit_code), f"`{each.reason}`", _text(str(inspect.getdoc(each)))) for each in tree]
    rows += [("130", "", "stopped by Ctrl-C; the same command goes on where it was")]
    return "## Exit codes of `still`\n\n" + _markdown(("code", "reason", "meaning"), rows) + _ERRORS_AS_DATA


def _errors_below(kind: type[errors.StillhouseError]) -> Iterator[type[errors.StillhouseError]]:
    for each in kind.__subclasses__():
        # A kind without a reason of its own is told as what it is a kind of. Kinds that other rooms add are there only once
        # those have been imported: what is generated must not depend on it.
        known = each.__module__ == errors.__name__
        if known and each.exit_code != errors.StillhouseError.exit_code and "reason" in vars(each):
            yield each
        yield from _errors_below(each)


def _markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _text(text: Any) -> str:
    """Make text safe for a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")

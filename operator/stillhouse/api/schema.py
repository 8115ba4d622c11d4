"""From pydantic's JSON schema of a model to a structural schema, the subset that Kubernetes accepts in a CRD.

Structural (Kubernetes documentation, "Specifying a structural schema"): every place has exactly one type, nothing is
referenced, alternatives between types do not exist. Absent values are absent, not null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stillhouse.api.base import RESERVED_KEY, ApiModel, CelRule, models_of

__all__ = ["reserved_names", "structural"]

Schema = dict[str, Any]

_COPIED = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_RESERVED_LIST_LIMIT = 64
_INT32_MAX = 2**31 - 1


def structural(model: type[ApiModel], path: str, *, defaults: bool = True) -> Schema:
    """Return the structural schema of a model.

    Args:
        model: the model; `cel_rules` of it and of every model inside become `x-kubernetes-validations`.
        path: its place in the resource, such as `spec`, for the messages of reserved fields.
        defaults: whether defaults are written; a status has none, it says what was observed.

    Raises:
        NotImplementedError: a field's annotation has no structural form.
    """
    document = model.model_json_schema(by_alias=True)
    classes = {each.__name__: each for each in _reachable(model)}
    return _Translation(document.pop("$defs", {}), classes, defaults).object(document, model, path)


def reserved_names(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and meaning of every reserved field inside a schema that `structural` made."""
    for name, field in schema.get("properties", {}).items():
        inner = f"{path}.{name}"
        if field.get("x-kubernetes-preserve-unknown-fields") or field.get("description", "").startswith("Reserved: "):
            yield inner, field["description"].removeprefix("Reserved: ").partition(". ")[0]
        else:
            yield from reserved_names(field, inner)
            yield from reserved_names(field.get("items", {}), f"{inner}[]")


def _reachable(model: type[ApiModel]) -> Iterator[type[ApiModel]]:
    yield model
    for info in model.model_fields.values():
        for inner in models_of(info.annotation):
            yield from _reachable(inner)


class _Translation:
    """One walk over a JSON schema; `definitions` and `classes` are both by class name."""

    def __init__(self, definitions: dict[str, Schema], classes: dict[str, type[ApiModel]], defaults: bool) -> None:
        self.definitions = definitions
        self.classes = classes
        self.defaults = defaults

    def object(self, node: Schema, model: type[ApiModel], path: str) -> Schema:
        """Translate the schema of a model."""
        fields: dict[str, Schema] = node.get("properties", {})
        result: Schema = {"description": _one_line(node["description"]), "type": "object"}
        if node.get("required"):
            result["required"] = sorted(node["required"])
        result["properties"] = {name: self.field(field, f"{path}.{name}") for name, field in fields.items()}
        kept_free = [_refusal(name, field[RESERVED_KEY], path) for name, field in fields.items() if RESERVED_KEY in field]
        rules = [_validation(rule) for rule in model.cel_rules] + kept_free
        if rules:
            result["x-kubernetes-validations"] = rules
        return result

    def field(self, node: Schema, path: str) -> Schema:
        """Translate the schema of a field, an item of a list or a value of a map."""
        if RESERVED_KEY in node:
            return _reserved(node)
        kind, node = self.resolved(node)
        if kind is not None:
            result = self.object(node, kind, path)
        else:
            result = {"description": _one_line(node["description"])} if "description" in node else {}
            result |= {key: node[key] for key in _COPIED if key in node}
            if "const" in node:
                result["enum"] = [node["const"]]
        if self.defaults and node.get("default") is not None:
            result["default"] = _without_nulls(node["default"])
        if result.get("type") == "array":
            result["items"] = self.field(node["items"], f"{path}[]")
            result.setdefault("x-kubernetes-list-type", "atomic")
        elif result.get("type") == "integer":
            result["format"] = "int32" if node.get("maximum", _INT32_MAX + 1) <= _INT32_MAX else "int64"
        elif "additionalProperties" in node and kind is None:
            result["additionalProperties"] = self.field(node["additionalProperties"], f"{path}.*")
        elif "type" not in result and "x-kubernetes-int-or-string" not in result:
            raise NotImplementedError(f"{path} has no single type: {node}")
        return result

    def resolved(self, node: Schema) -> tuple[type[ApiModel] | None, Schema]:
        """Follow references and drop the alternative null; return the model that it comes from, if any."""
        kind = None
        while "anyOf" in node or "$ref" in node:
            around = {key: value for key, value in node.items() if key not in {"anyOf", "$ref"}}
            if "$ref" in node:
                name = node["$ref"].rpartition("/")[2]
                kind, inner = self.classes[name], self.definitions[name]
            else:
                choices = [choice for choice in node["anyOf"] if choice != {"type": "null"}]
                if len(choices) != 1:
                    raise NotImplementedError(f"alternatives between types: {node}")
                inner = choices[0]
            node = {**inner, **around}
        return kind, node


def _reserved(node: Schema) -> Schema:
    """Describe a field that the parent's rule refuses: any content, so that the rule is what answers."""
    result: Schema = {
        "description": f"Reserved: {node[RESERVED_KEY]}. Refused: not available in this version.",
        "type": node["type"],
    }
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if node["type"] == "object":
        result |= anything
    elif node["type"] == "array":
        result |= {"maxItems": _RESERVED_LIST_LIMIT, "x-kubernetes-list-type": "atomic", "items": anything}
    elif node["type"] == "string":
        result["maxLength"] = 1024
    return result


def _refusal(name: str, what: str, path: str) -> Schema:
    return {
        "rule": f"!has(self.{name})",
        "message": f"{path}.{name} is not available in this version: {what}",
        "fieldPath": f".{name}",
        "reason": "FieldValueForbidden",
    }


def _validation(rule: CelRule) -> Schema:
    result: Schema = {"rule": rule.rule, "message": rule.message}
    if rule.field:
        result["fieldPath"] = f".{rule.field}"
    return result


def _without_nulls(value: Any) -> Any:
    """Write a default in full: the API server checks its rules against it before it fills in the defaults inside."""
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""The CustomResourceDefinitions, generated from the pydantic models."""

from __future__ import annotations

from typing import Any

import yaml

from stillhouse.api.base import CelRule
from stillhouse.api.model import API_VERSION, GROUP, KIND, DistilledModel, Spec
from stillhouse.api.revision import REVISION_KIND, ModelRevision, RevisionSpec
from stillhouse.api.schema import structural
from stillhouse.api.status import Status

__all__ = [
    "FILE_NAME", "PLURAL", "REVISION_FILE_NAME", "REVISION_PLURAL",
    "crd", "for_chart", "render", "render_revision", "revision_crd",
]  # fmt: skip

PLURAL = "distilledmodels"
FILE_NAME = f"{GROUP}_{PLURAL}.yaml"
"""Name of the generated file in `crds/`."""
REVISION_PLURAL = "modelrevisions"
REVISION_FILE_NAME = f"{GROUP}_{REVISION_PLURAL}.yaml"

_HEADER = "# Generated from operator/stillhouse/api by `make generate`: change the models there, not this file.\n"


def crd() -> dict[str, Any]:
    """Return the CRD of `DistilledModel` as plain data (apiextensions.k8s.io/v1), the same on every call."""
    subresources = {
        "status": {},
        "scale": {
            "specReplicasPath": ".spec.scale.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    }
    return _definition(KIND, PLURAL, "dm", _schema(), _columns(), subresources)


def revision_crd() -> dict[str, Any]:
    """Return the CRD of `ModelRevision` as plain data, the same on every call."""
    schema = {
        "description": ModelRevision.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {**_envelope(), "spec": structural(RevisionSpec, "spec", defaults=False)},
    }
    return _definition(REVISION_KIND, REVISION_PLURAL, "mrev", schema, _revision_columns(), {})


def _definition(
    kind: str, plural: str, short: str, schema: dict[str, Any], columns: list[dict[str, Any]], subresources: dict[str, Any]
) -> dict[str, Any]:
    version = {
        "name": API_VERSION.rpartition("/")[2],
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        **({"subresources": subresources} if subresources else {}),
        "additionalPrinterColumns": columns,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "listKind": f"{kind}List",
                "shortNames": [short],
                "categories": ["stillhouse"],
            },
            "versions": [version],
        },
    }


def render() -> str:
    """Return the CRD of `DistilledModel` as the text of its file in `crds/`."""
    return _text(crd())


def render_revision() -> str:
    """Return the CRD of `ModelRevision` as the text of its file in `crds/`."""
    return _text(revision_crd())


def for_chart(definition: dict[str, Any]) -> str:
    """Return a CRD as the text of its file in the chart: it stays when the release goes, and every resource with it."""
    kept = {**definition["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}
    return _text({**definition, "metadata": kept})


def _text(definition: dict[str, Any]) -> str:
    return _HEADER + yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=120)


def _schema() -> dict[str, Any]:
    """Describe the whole resource. Kubernetes itself knows apiVersion, kind and metadata."""
    return {
        "description": DistilledModel.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            **_envelope(),
            "spec": structural(Spec, "spec"),
            "status": structural(Status, "status", defaults=False),
        },
        "x-kubernetes-validations": [_root_rule(rule) for rule in DistilledModel.cel_rules],
    }


def _envelope() -> dict[str, Any]:
    return {
        "apiVersion": {"description": "Version of this API.", "type": "string", "maxLength": 64},
        "kind": {"description": "Kind of the resource.", "type": "string", "maxLength": 64},
        "metadata": {"type": "object"},  # anything more, even a description, is refused
    }


def _root_rule(rule: CelRule) -> dict[str, Any]:
    """Rules over metadata carry no fieldPath: it may only point to fields that the schema lists."""
    return {"rule": rule.rule, "message": rule.message}


def _columns() -> list[dict[str, Any]]:
    return [
        _column("Precision", ".status.revision.precision", "Precision of the revision that serves."),
        _column("Gate", _condition("GatePassed"), "Whether a candidate of this generation met every limit."),
        _column("Size", ".status.revision.size", "Size of all files of the revision that serves."),
        _column("Replicas", ".status.replicas", "Replicas that exist.", kind="integer"),
        _column("Available", _condition("Available"), "Whether an accepted revision answers."),
        _column("Ready", _condition("Ready"), "Whether this generation's revision answers."),
        _column("Status", '.status.conditions[?(@.type=="Ready")].reason', "Why Ready is what it is, as one word."),
        _column("Age", ".metadata.creationTimestamp", "Time since the resource was created.", kind="date"),
        # Last: it is the one of no certain width, and the others stay in their places.
        _column("Progress", ".status.progress", "What is running."),
        _column("Pin", ".status.pin", "The revision that serve.pin holds.", wide=True),
        _column("Revision", ".status.revision.name", "The revision that serves.", wide=True),
        _column("Digest", ".status.revision.digest", "Digest of the revision that serves.", wide=True),
        _column("Endpoint", ".status.endpoint", "Where clients find the model.", wide=True),
    ]


def _revision_columns() -> list[dict[str, Any]]:
    return [
        _column("Model", ".spec.model", "The DistilledModel."),
        _column("Outcome", ".spec.outcome", "Whether it may serve."),
        _column("Precision", ".spec.precision", "Its precision."),
        _column("Size", ".spec.size", "Bytes of all its files.", kind="integer"),
        _column("Age", ".metadata.creationTimestamp", "Time since it was recorded.", kind="date"),
        _column("Reason", ".spec.reason", "Why, as one word.", wide=True),
        _column("Digest", ".spec.digest", "Digest of the artifact.", wide=True),
    ]


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> dict[str, Any]:
    column = {"name": name, "type": kind, "description": description, "jsonPath": path}
    return {**column, "priority": 1} if wide else column

"""Small projects as a cluster takes them: their sources on a claim, every URI named and bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from tests.support.cli import Project
from tests.support.nodes.models import CLAIM, Models

__all__ = ["on_claim"]


def on_claim(models: Models, project: Project, claim: Path | None = None, **spec: Any) -> dict[str, Any]:
    """Put a project's sources onto the store's claim, name and bind them; return the model as a cluster takes it.

    `claim` is the folder of the store's claim where that is there already, `spec` replaces parts of the model's spec.
    """
    models.put(project.folder, claim or models.claim())
    body = named(project)
    sources = body.pop("sources")
    models.bind({name: f"pvc://{CLAIM}/sources/{uri.removeprefix('file://./')}" for name, uri in sources.items()})
    # Half a CPU: the gate's pod holds server and client, and a node of two CPUs carries the operator too.
    body["spec"]["serve"]["resources"] = {"limits": {"cpu": "500m", "memory": "512Mi"}}
    body["spec"] |= spec
    return body


def named(project: Project) -> dict[str, Any]:
    """Return a project's model with names for its URIs, and under `sources` what they mean here."""
    body: dict[str, Any] = yaml.safe_load(project.file.read_text())
    sources: dict[str, str] = dict(yaml.safe_load((project.folder / "stillhouse.yaml").read_text())["sources"])
    spec = body["spec"]
    for name, place in {"gate": spec.get("gate"), "index": spec.get("index"), "train": spec.get("distill")}.items():
        if place:
            sources[f"data:{name}"] = place["data"]["uri"]
            place["data"]["uri"] = f"data:{name}"
    if spec["source"]["uri"] not in sources:
        sources["models:teacher"] = spec["source"]["uri"]
        spec["source"]["uri"] = "models:teacher"
    return {**body, "sources": sources}

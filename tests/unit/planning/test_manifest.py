"""A pass or a loss is named in several places that do not import each other. Where one is missing, the failure says which."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from stillhouse.api.loss import CLASS_LOSSES, EMBEDDING_LOSSES, LAYER_LOSSES, TEMPERATURE_LOSSES, Loss, LossKind
from stillhouse.planning.estimate import SECONDS_PER_UNIT
from stillhouse.planning.manifest import LOSSES, PASSES

ROOT = Path(__file__).parents[3]
TABLES = (ROOT / "docs/distillation-losses.md").read_text(encoding="utf-8")
TASKS = {"embedding": ("EMBEDDING_LOSSES", EMBEDDING_LOSSES), "logits": ("CLASS_LOSSES", CLASS_LOSSES)}
LAYERS = {"hidden": ("LAYER_LOSSES", LAYER_LOSSES), "tokens": ("LAYER_LOSSES", LAYER_LOSSES)}


def test_every_pass_has_a_rate() -> None:
    """Without one `still plan` could not say what the pass will cost."""
    for name in PASSES:
        assert name in SECONDS_PER_UNIT, f'planning/estimate.py: add "{name}" to SECONDS_PER_UNIT, and its unit to work_of'
    for name in SECONDS_PER_UNIT:
        assert name in PASSES, f'planning/manifest.py: no line of PASSES is named "{name}", which has a rate in estimate.py'


@pytest.mark.parametrize("target", [entry.target for entry in (*PASSES.values(), *LOSSES.values())])
def test_what_a_line_names_is_there(target: str) -> None:
    module, _, name = target.partition(":")
    path = ROOT / "operator" / f"{module.replace('.', '/')}.py"
    assert path.is_file(), f"planning/manifest.py names {target}, and there is no {path.relative_to(ROOT)}"
    assert re.search(rf"^class {name}\b", path.read_text(encoding="utf-8"), re.MULTILINE), f"{path}: no class {name}"


def test_the_kinds_of_losses_are_those_of_the_manifest() -> None:
    for kind in get_args(LossKind):
        assert kind in LOSSES, f'planning/manifest.py: add LossEntry("{kind}", …) to LOSSES'
    for kind in LOSSES:
        assert kind in get_args(LossKind), f'api/loss.py: add "{kind}" to LossKind; then python -m stillhouse.api.generate'


@pytest.mark.parametrize("kind", LOSSES)
def test_the_resource_knows_what_a_loss_belongs_to(kind: str) -> None:
    """What is in no list of tasks is accepted for every task, and fails in the training."""
    entry = LOSSES[kind]
    name, those = {**TASKS, **LAYERS}.get(entry.reads or "", ("", (kind,)))
    assert kind in those, f'api/loss.py: add "{kind}" to {name}: by planning/manifest.py it reads {entry.reads}'
    warm = entry.temperature != 1.0
    assert (kind in TEMPERATURE_LOSSES) == warm, (
        f'api/loss.py, TEMPERATURE_LOSSES, and planning/manifest.py (temperature={entry.temperature}) disagree on "{kind}": '
        "a loss that takes a temperature stands in the one and has its default, which is not 1, in the other"
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_described_where_users_look(kind: str) -> None:
    described = Loss.model_json_schema()["properties"]["kind"].get("description", "")
    assert f"`{kind}`" in described, f"api/loss.py: say in the docstring of Loss.kind what `{kind}` is"
    assert f"\n| `{kind}` |" in TABLES, f"docs/distillation-losses.md: add a row | `{kind}` | … | to the table of its task"

"""What `still lint` finds before anything is built: patterns, lengths, widths."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.cli import Project

from .conftest import Still

DISTILL: dict[str, Any] = {
    "data": {"uri": "file://./corpus.jsonl"},
    "stages": [{"losses": [{"kind": "embedding"}]}],
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create()


def guarded(*patterns: dict[str, str]) -> dict[str, Any]:
    return {"guard": {"patterns": list(patterns)}}


@pytest.mark.parametrize("more", [(), ("--no-sources",)])
def test_a_pattern_that_is_none_is_told_with_its_place(still: Still, project: Project, more: tuple[str, ...]) -> None:
    project.edit(edge=guarded({"name": "good", "regex": "[0-9]+"}, {"name": "ahead", "regex": "a(?=b)"}))
    done = still("lint", *more, str(project.file))
    assert done.code == 2
    assert "spec.edge.guard.patterns[1].regex (line " in done.err
    assert "no regular expression of RE2" in done.err
    assert still("lint", "--no-sources", str(project.file)).code == 2


def test_a_name_that_stands_twice_is_told(still: Still, project: Project) -> None:
    project.edit(edge=guarded({"name": "one", "regex": "a+"}, {"name": "one", "named": "email"}))
    assert "spec.edge.guard.patterns[1].name" in still("lint", str(project.file)).err


def test_without_re2_nothing_is_said_of_patterns(still: Still, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    project.edit(edge=guarded({"name": "ahead", "regex": "a(?=b)"}))
    assert still("lint", str(project.file)).code == 0


def as_bert(project: Project, **config: Any) -> None:
    """Make the source a folder of safetensors, of which lint reads the configuration alone."""
    folder = project.folder / "bert"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 384, **config}))
    project.edit(source={"uri": "file://./bert"}, compress={"precision": "auto"})


@pytest.mark.parametrize(
    ("config", "wanted", "most"),
    [
        ({"max_position_embeddings": 512}, 513, 512), ({"max_position_embeddings": 512}, 512, None),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 514, 512), ({}, 8000, None),
    ],
)  # fmt: skip
def test_a_length_beyond_the_models_is_told(
    still: Still, project: Project, config: dict[str, Any], wanted: int, most: int | None
) -> None:
    as_bert(project, **config)
    project.edit(source={"maxLength": wanted})
    done = still("lint", str(project.file))
    assert ("spec.source.maxLength" in done.err) == (most is not None), done.err
    assert most is None or f"at most {most}" in done.err


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"architectures": ["BertModel"]}, "no classification head"),
        ({"id2label": {"0": "no", "2": "yes"}}, "without holes"),
        ({"id2label": {"0": "no", "1": "yes"}}, ""),
    ],
)
def test_an_encoder_where_a_classifier_is_wanted_is_told(
    still: Still, project: Project, config: dict[str, Any], says: str
) -> None:
    as_bert(project, **config)
    project.edit(source={"task": "text-classification"})
    data = project.read()
    del data["spec"]["gate"], data["spec"]["index"]
    project.write(data)
    done = still("lint", str(project.file))
    assert (done.code, says in done.err) == (2 if says else 0, True), done.err
    assert not says or "spec.source.uri" in done.err or "id2label" in done.err


@pytest.mark.parametrize(
    ("student", "near"),
    [
        ({"hiddenSize": 200}, 192), ({"hiddenSize": 100, "init": "svd"}, 96), ({"hiddenSize": 192}, None),
        ({"hiddenSize": 384}, None),
        ({"hiddenSize": 48}, None), ({"hiddenSize": 200, "attentionHeads": 8}, None),
        ({"hiddenSize": 190, "attentionHeads": 8}, 192),
    ],
)  # fmt: skip
def test_a_width_without_whole_heads_is_told_with_the_nearest(
    still: Still, project: Project, student: dict[str, Any], near: int | None
) -> None:
    as_bert(project, max_position_embeddings=512)
    project.edit(distill={**DISTILL, "student": student})
    done = still("lint", str(project.file))
    assert ("spec.distill.student.hiddenSize" in done.err) == (near is not None), done.err
    assert near is None or f"hiddenSize: {near}, the nearest that is" in done.err


def test_a_name_of_the_hub_that_was_bound_as_a_path_is_told(still: Still, project: Project) -> None:
    (project.folder / "stillhouse.yaml").write_text("sources:\n  models:tiny: owner/name\n")
    assert "bound as hf://owner/name" in still("lint", str(project.file)).err


def stage(**more: Any) -> dict[str, Any]:
    return {"losses": [{"kind": "embedding"}], **more}


DEEP = [{"teacher": 6}, {"teacher": 9}]
SMALLER = {"hiddenLayers": 2, "hiddenSize": 64, "attentionHeads": 2, "intermediateSize": 128, "init": "svd"}


@pytest.mark.parametrize(
    ("distill", "field", "says"),
    [
        ({"stages": [stage(losses=[{"kind": "hidden", "layer": 7}])]}, "stages[0].losses[0].layer", "1 to 6"),
        (
            {"stages": [stage(), stage(losses=[{"kind": "embedding"}, {"kind": "hidden", "layers": DEEP}])]},
            *("stages[1].losses[1].layers[1].teacher", "1 to 6"),
        ),
        (
            {
                "assistants": [{"student": {"hiddenLayers": 4}, "stages": [stage(losses=[{"kind": "hidden", "layer": 6}])]}],
                "stages": [stage(losses=[{"kind": "hidden", "layer": 5}])],
            },
            *("stages[0].losses[0].layer", "1 to 4"),
        ),
        (
            {"stages": [stage(losses=[{"kind": "hidden", "layers": [{"teacher": 1, "student": 3}]}])]},
            *("stages[0].losses[0].layers[0].student", "1 to 2"),
        ),
        ({"stages": [stage(prune={"heads": "75%"})]}, "stages[0].prune.heads", "at most 50%"),
        ({"stages": [stage(prune={"neurons": "99.5%"})]}, "stages[0].prune.neurons", "at most 99.2%"),
        (
            {"stages": [stage(prune={"heads": "50%"}), stage(prune={"heads": "10%"})]},
            *("", ""),
        ),
        ({"stages": [stage(prune={"heads": "50%"}), stage(prune={"heads": "50%"})]}, "stages[1].prune.heads", "but one"),
        ({"stages": [stage(losses=[{"kind": "hidden", "layer": 6}], prune={"heads": "50%", "neurons": "99%"})]}, "", ""),
        ({"stages": [stage(freeze={"layers": 1}, prune={"heads": "75%"})]}, "stages[0].prune.heads", "leaves 0"),
        ({"stages": [stage(freeze={"layers": 1}, prune={"heads": "50%"})]}, "", ""),
        (
            {"stages": [stage(prune={"heads": "25%"}), stage(freeze={"layers": 1}, prune={"heads": "75%"})]},
            *("", ""),  # which layer has lost what, only the stage knows
        ),
        ({"student": {}, "stages": [stage(prune={"neurons": "99.99%"})]}, "stages[0].prune.neurons", "at most 99.9%"),
        ({"student": {"hiddenLayers": 1}, "stages": [stage(prune={"heads": "99%"})]}, "stages[0].prune.heads", "12 heads"),
        ({"student": {"architecture": "residual", "hiddenSize": 64}, "stages": [stage(prune={"heads": "99%"})]},
         "stages[0].prune.heads", "12 heads in 6 layers"),
        ({"student": {"hiddenSize": 64}, "stages": [stage(prune={"heads": "99%"})]}, "stages[0].prune.heads", "12 heads in 6"),
        ({"student": {"architecture": "mlp"}, "stages": [stage(), stage(prune={"neurons": "99.99%"})]},
         "stages[1].prune.neurons", "at most 99.6%"),
        ({"student": {"init": "layers"}, "stages": [stage(freeze={"layers": 7})]}, "stages[0].freeze.layers", "up to 6"),
        ({"student": {"init": "layers"}, "stages": [stage(freeze={"layers": 6})]}, "", ""),
        ({"student": {}, "stages": [stage(losses=[{"kind": "hidden", "layers": [{"teacher": 1, "student": 7}]}])]},
         "stages[0].losses[0].layers[0].student", "1 to 6"),
        ({"student": {"vocabulary": {"maxSize": 8000}}, "stages": [stage(), stage(losses=[{"kind": "attention-transfer"}])]},
         "student.vocabulary", "spec.distill.stages[1].losses[0] is attention-transfer"),
        ({"student": {"vocabulary": {"maxSize": 30522}}, "stages": [stage(losses=[{"kind": "attention-transfer"}])]}, "", ""),
        ({"student": {"vocabulary": {"maxSize": 8000}}, "stages": [stage(losses=[{"kind": "hidden"}])]}, "", ""),
        (
            {
                "assistants": [{"student": {"vocabulary": {"maxSize": 9000}}, "stages": [stage()]}],
                "student": {"vocabulary": {"maxSize": 8000}},
                "stages": [stage(losses=[{"kind": "hidden-tokens"}])],
            },
            *("student.vocabulary", "maxSize: 9000"),
        ),
    ],
)  # fmt: skip
def test_layers_and_shares_that_cannot_be_are_told_before_anything_is_trained(
    still: Still, project: Project, distill: dict[str, Any], field: str, says: str
) -> None:
    shape = {"num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522}
    as_bert(project, max_position_embeddings=512, **shape)
    told = {**DISTILL, "student": SMALLER, **distill}
    project.edit(distill=told)
    done = still("lint", str(project.file))
    assert (done.code, f"spec.distill.{field}" in done.err and says in done.err) == (2, True) if field else done.code == 0, (
        done.err
    )


@pytest.mark.parametrize("layers", [6, 7])
def test_more_layers_than_a_model_that_is_fine_tuned_has_are_told(still: Still, project: Project, layers: int) -> None:
    as_bert(project, max_position_embeddings=512, num_hidden_layers=6)
    tune = {"data": {"uri": "file://./corpus.jsonl", "columns": {"label": "name"}}, "freeze": {"layers": layers}}
    project.edit(source={"task": "text-classification", "labels": ["no", "yes"], "fineTune": tune})
    data = project.read()
    del data["spec"]["gate"], data["spec"]["index"]
    project.write(data)
    done = still("lint", str(project.file))
    assert ("spec.source.fineTune.freeze.layers" in done.err and "up to 6" in done.err) == (layers == 7), done.err


def weighed(**weights: str) -> dict[str, Any]:
    return {"stages": [{"losses": [{"kind": "logits", "classWeights": {"byLabel": weights}}]}]}


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    ("distill", "field", "says"),
    [
        (weighed(no="2", jes="1"), "stages[0].losses[0].classWeights.byLabel", "no, yes, so"),
        (weighed(no="0", yes="0.0", so="0"), "stages[0].losses[0].classWeights.byLabel", "every label has weight 0"),
        (weighed(no="0", yes="0"), "", ""),  # labels that are not named count 1
        ({"topLogits": 3, "stages": [{"losses": [{"kind": "logits"}]}]}, "topLogits", "1 to 2"),
        ({"topLogits": 3, "stages": [{"losses": [{"kind": "reverse-kl"}]}]}, "topLogits", "1 to 2"),
        ({"topLogits": 2, "stages": [{"losses": [{"kind": "logits"}]}]}, "", ""),
    ],
)
def test_labels_that_the_model_does_not_have_are_told(
    still: Still, project: Project, listed: bool, distill: dict[str, Any], field: str, says: str
) -> None:
    labels = ["no", "yes", "so"]
    as_bert(project, id2label={} if listed else dict(enumerate(labels)))
    project.edit(source={"task": "text-classification", **({"labels": labels} if listed else {})})
    data = project.read()
    del data["spec"]["gate"], data["spec"]["index"]
    project.write(data)
    rows = {**DISTILL["data"], "columns": {"label": "name"}}
    project.edit(distill={**DISTILL, "data": rows, "student": {"hiddenLayers": 1}, **distill})
    done = still("lint", str(project.file))
    assert done.code == (2 if field else 0), done.err
    assert not field or (f"spec.distill.{field}" in done.err and says in done.err), done.err


@pytest.mark.parametrize(
    ("compress", "warned"),
    [
        ({"precision": "int8"}, True), ({"precision": "int8", "int8": {"ranges": "dynamic"}}, True),
        ({"precision": "int8", "int8": {"ranges": "minmax"}}, False), ({"precision": "fp16"}, True),
        ({"precision": "int4"}, False),
        ({"precision": "int4", "int4": {"method": "rtn"}}, True), ({"precision": "auto"}, False), ({"precision": "mixed"}, False),
    ],
)  # fmt: skip
def test_calibration_that_nothing_reads_is_warned_of(
    still: Still, project: Project, compress: dict[str, Any], warned: bool
) -> None:
    as_bert(project)
    project.edit(compress={**compress, "calibration": {"uri": "file://./corpus.jsonl"}})
    done = still("lint", "--no-sources", str(project.file))
    assert (done.code, "warning: spec.compress.calibration" in done.out) == (0, warned), (done.err, done.out)


@pytest.mark.parametrize(
    ("stage", "warned"),
    [
        ({"learningRate": "999999999"}, "learningRate: 999999999: "),
        ({"learningRate": "1", "embeddingLearningRate": "1.5"}, "embeddingLearningRate: 1.5: "),
        ({"losses": [{"kind": "similarity", "temperature": "0.000000001"}]}, "losses[0].temperature: 0.000000001: only the"),
        ({"losses": [{"kind": "embedding"}, {"kind": "similarity", "temperature": "101"}]}, "losses[1].temperature: 101: the"),
        (
            {"losses": [{"kind": "similarity", "temperature": "0.05", "temperatureSchedule": {"to": "500"}}]},
            "losses[0].temperatureSchedule.to: 500: ",
        ),
        ({"learningRate": "0.01", "losses": [{"kind": "similarity", "temperature": "0.01"}]}, ""),
    ],
)
@pytest.mark.parametrize("assistant", [False, True])
def test_numbers_that_teach_nothing_are_warned_of(
    still: Still, project: Project, stage: dict[str, Any], warned: str, assistant: bool
) -> None:
    as_bert(project)
    asked = {"student": {"hiddenLayers": 1}, "stages": [{"losses": [{"kind": "embedding"}], **stage}]}
    rest = {"assistants": [asked], "student": {"hiddenLayers": 1}} if assistant else asked
    project.edit(distill={**DISTILL, **rest})
    done = still("lint", "--no-sources", str(project.file))
    assert done.code == 0, done.err
    place = f"spec.distill{'.assistants[0]' if assistant else ''}.stages[0]"
    told = [line for line in done.out.splitlines() if line.startswith("warning: spec.distill")]
    assert [line.startswith(f"warning: {place}.{warned}") for line in told] == ([True] if warned else []), told


@pytest.mark.parametrize("kind", ["hard", "logits"])
def test_rows_without_labels_that_no_loss_reads_are_warned_of(still: Still, project: Project, kind: str) -> None:
    as_bert(project)
    project.edit(source={"task": "text-classification", "labels": ["no", "yes"]})
    data = project.read()
    del data["spec"]["gate"], data["spec"]["index"]
    project.write(data)
    rows = {**DISTILL["data"], "columns": {"label": "name"}}
    stages = [{"losses": [{"kind": kind}]}]
    project.edit(distill={"data": rows, "unlabelled": DISTILL["data"], "student": {"hiddenLayers": 1}, "stages": stages})
    done = still("lint", "--no-sources", str(project.file))
    assert done.code == 0, done.err
    assert ("warning: spec.distill.unlabelled" in done.out) is (kind == "hard"), done.out

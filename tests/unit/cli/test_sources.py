"""What `still lint` and its kin say of a file's sources: all that is wrong, each with its line, before anything is built."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from tests.support.cli import Project

from stillhouse.errors import DataError
from stillhouse.passes.sources.columns import choose

from .conftest import Still

README = Path(__file__).parents[3] / "README.md"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create_distilling()


def line_of(project: Project, text: str) -> int:
    return next(number for number, line in enumerate(project.file.read_text().splitlines(), 1) if text in line)


def write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def test_lint_warns_of_a_limit_that_so_few_rows_cannot_show(still: Still, project: Project) -> None:
    project.edit(gate={"metrics": [{"name": "neighbour-overlap@5", "min": "95%"}]})
    said = still("lint", str(project.file)).out
    assert "spec.gate.metrics[0].min: 95% cannot be told from 60 rows; without a single mistake it takes 72" in said
    project.edit(gate={"metrics": [{"name": "neighbour-overlap@5", "min": "94%"}]})
    assert "cannot be told" not in still("lint", str(project.file)).out


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_lint_warns_of_few_rows_whatever_they_are_written_in(still: Still, project: Project, suffix: str) -> None:
    write_table(project.folder / f"few.{suffix}", [{"text": f"read\na file, {number}"} for number in range(7)])
    project.edit(distill={"data": {"uri": f"file://./few.{suffix}"}})
    assert "warning: spec.distill.data: 7 rows are few to learn from" in still("lint", str(project.file)).out


# every source --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["lint", "plan", "build"])
def test_every_source_that_is_missing_is_named_with_its_line(still: Still, project: Project, command: str) -> None:
    for name in ("train", "gate"):
        (project.folder / f"{name}.jsonl").unlink()
    result = still(command, str(project.file))
    assert (result.code, result.out) == (2, "")
    for field, name in (("spec.distill.data.uri", "train.jsonl"), ("spec.gate.data.uri", "gate.jsonl")):
        assert f"{field} (line {line_of(project, name)}): nothing is there\n  found:   file://./{name}" in result.err


def test_two_fields_with_one_missing_source_are_both_named(still: Still, project: Project) -> None:
    project.edit(index={"data": {"uri": "file://./gate.jsonl"}})
    (project.folder / "gate.jsonl").unlink()
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.gate.data.uri (line " in result.err
    assert "spec.index.data.uri (line " in result.err


def test_every_unbound_name_of_the_readme_is_told(still: Still) -> None:
    text = README.read_text().split("```yaml\n")[1].split("```")[0]
    Path("model.yaml").write_text(text)
    result = still("lint", "model.yaml")
    assert result.code == 2
    unbound = {name: number for number, line in enumerate(text.splitlines(), 1) for name in re.findall(r"uri: ([\w:-]+)", line)}
    assert len(unbound) >= 3
    for name, line in unbound.items():
        assert f"(line {line}): the named source is not bound to anything\n  found:   {name}\n" in result.err
        assert (
            "fix:     write the file stillhouse.yaml beside the resource (or ~/.config/stillhouse/stillhouse.yaml)" in result.err
        )
        assert f'sources: {{"{name}": "file://./PATH"}}' in result.err


def test_a_factory_is_looked_for_also_where_a_source_is_missing(still: Still, project: Project) -> None:
    (project.folder / "train.jsonl").unlink()
    project.edit(source={"factory": {"target": "nowhere_to_be_found:make"}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.distill.data.uri (line " in result.err
    assert f"spec.source.factory.target (line {line_of(project, 'target:')}): " in result.err


def test_a_function_that_its_module_does_not_define_is_told_before_training(still: Still, project: Project) -> None:
    (project.folder / "networks.py").write_text("import nowhere_to_be_found\n\ndef student(): ...\ndef teacher(): ...\n")
    for target, code in (("networks:studen", 2), ("networks:student", 0), ("networks:nowhere_to_be_found", 0)):
        distill = project.read()["spec"]["distill"]
        project.edit(distill={**distill, "student": {"factory": {"target": target}}})
        result = still("lint", str(project.file))
        assert result.code == code, "the file is read, and neither run nor asked what it imports"
        if code:
            line = line_of(project, "target:")
            assert f"spec.distill.student.factory.target (line {line}): the factory's module has no such function" in result.err
            assert "fix:     write target: networks:student\n" in result.err


@pytest.mark.parametrize("place", ["spec.gate.data", "spec.distill.data"])
def test_data_is_not_taken_from_the_hub(still: Still, project: Project, place: str) -> None:
    part = place.split(".")[1]
    project.edit(**{part: {"data": {"uri": "hf://owner/name"}}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert f"{place}.uri (line {line_of(project, 'hf://')}): data is not taken from the hub\n" in result.err
    assert "allowed: file://, package://, s3://, oci://, https://, data:NAME\n" in result.err


# columns -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("command", ["lint", "build"])
def test_a_column_that_no_role_has_is_told_before_anything_is_built(
    still: Still, project: Project, suffix: str, command: str
) -> None:
    rows = [{"sentence": "read a file"}, {"sentence": "sort a list"}]
    path = project.folder / f"rows.{suffix}"
    write_table(path, rows)
    project.edit(distill={"data": {"uri": f"file://./rows.{suffix}"}})
    result = still(command, str(project.file))
    assert (result.code, result.out) == (2, "")
    with pytest.raises(DataError) as refused:
        choose({}, ["sentence"])
    expected = refused.value.problem
    # The file has no columns: line, so it is the data's.
    assert f"spec.distill.data.columns (line {line_of(project, f'rows.{suffix}') - 1}): {expected.message}" in result.err
    assert f"found:   {expected.found}\n" in result.err
    assert f"fix:     {expected.fix}\n" in result.err
    project.edit(distill={"data": {"uri": f"file://./rows.{suffix}", "columns": {"text": "sentence"}}})
    assert still("lint", str(project.file)).code == 0


def test_wrong_columns_are_told_beside_missing_sources_each_with_its_line(still: Still, project: Project) -> None:
    (project.folder / "train.jsonl").unlink()
    project.edit(gate={"data": {"uri": "file://./gate.jsonl", "columns": {"query": "question"}}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.distill.data.uri (line " in result.err
    assert f"spec.gate.data.columns.query (line {line_of(project, 'query: question')}): the data has no such column" in result.err


def test_data_is_judged_for_what_it_is_for(still: Still, project: Project) -> None:
    write_table(project.folder / "half.jsonl", [{"query": "a question"}])
    project.edit(compress={"calibration": {"uri": "file://./half.jsonl"}})
    assert still("lint", str(project.file)).code == 0, "half a pair calibrates"
    project.edit(gate={"data": {"uri": "file://./half.jsonl"}})
    assert "spec.gate.data.columns.document" in still("lint", str(project.file)).err


@pytest.mark.parametrize("command", ["lint", "plan", "build"])
def test_a_metric_that_ranks_is_told_to_have_no_pairs_before_training(still: Still, project: Project, command: str) -> None:
    write_table(project.folder / "texts.csv", [{"text": "read a file", "label": "a"}])
    metrics = [{"name": "mrr@10", "min": "50%", "of": "teacher"}]
    project.edit(gate={"data": {"uri": "file://./texts.csv"}, "metrics": metrics})
    result = still(command, str(project.file))
    assert (result.code, result.out) == (2, "")
    line = line_of(project, "texts.csv") - 1
    assert f"spec.gate.data.columns (line {line}): metric mrr@10 needs query and document\n" in result.err
    assert "fix:     write columns: {query: COLUMN, document: COLUMN}\n" in result.err


@pytest.mark.parametrize("metric", [{"name": "accuracy", "min": "50%"}, {"name": "log-loss", "max": "0.5"}])
def test_labels_that_metrics_and_losses_need_are_told_to_be_missing_before_training(
    still: Still, project: Project, metric: dict[str, str]
) -> None:
    write_table(project.folder / "texts.csv", [{"text": "read a file", "lable": "a"}])
    project.edit(
        source={"task": "text-classification", "labels": ["a", "b"]},
        gate={"data": {"uri": "file://./texts.csv"}, "metrics": [metric]},
        distill={
            "student": {"hiddenLayers": 1},
            "stages": [{"losses": [{"kind": "hard"}]}, {"losses": [{"kind": "hard"}, {"kind": "logits"}]}],
        },
    )
    result = still("lint", str(project.file))
    assert (result.code, result.out) == (2, "")
    assert (
        f"spec.gate.data.columns.label (line {line_of(project, 'texts.csv') - 1}): metric {metric['name']} needs labels"
        in result.err
    )
    assert "did you mean lable? write columns: {label: lable}" in result.err
    assert f"spec.distill.data.columns.label (line {line_of(project, 'train.jsonl') - 1}): loss hard needs labels" in result.err
    assert result.err.count("loss hard") == 1
    project.edit(gate={"metrics": [{"name": "agreement", "min": "50%"}]}, distill={"stages": [{"losses": [{"kind": "logits"}]}]})
    assert still("lint", str(project.file)).code == 0, "these need no labels"


def test_a_role_of_another_task_is_not_suggested(still: Still, project: Project) -> None:
    write_table(project.folder / "rows.csv", [{"message": "read a file", "label": "a"}])
    project.edit(distill={"data": {"uri": "file://./rows.csv"}})
    said = still("lint", str(project.file)).err
    assert "write columns" not in said
    assert "columns: {text: message}" in said


def test_columns_of_a_table_that_are_missing_are_told_before_anything_is_built(still: Still, project: Project) -> None:
    rows: list[dict[str, str]] = [{"age": str(n), "mean radius": "1.5", "kind": "ab"[n % 2]} for n in range(4)]
    write_table(project.folder / "rows.csv", rows)
    features = {"columns": ["age", "mean_radius"]}
    project.edit(
        source={"task": "tabular-classification", "labels": ["a", "b"], "features": features},
        distill={
            "student": {"hiddenSize": 8},
            "data": {"uri": "file://./rows.csv", "columns": {"label": "kind"}},
            "stages": [{"losses": [{"kind": "logits"}]}],
        },
        gate={"metrics": [{"name": "agreement", "min": "50%"}]},
    )
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "spec.source.features.columns" in result.err
    assert "did you mean mean radius?" in result.err


# the gate's rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["same", "copy", "link", "part"])
@pytest.mark.parametrize("command", ["lint", "plan", "build"])
def test_a_gate_that_reads_the_training_file_is_refused_before_anything_is_built(
    still: Still, project: Project, how: str, command: str
) -> None:
    train = project.folder / "train.jsonl"
    gate = project.folder / ("parts/2.jsonl" if how == "part" else "held-out.jsonl")
    gate.parent.mkdir(exist_ok=True)
    if how == "link":
        gate.symlink_to(train)
    elif how != "same":
        gate.write_bytes(train.read_bytes())
        write_table(project.folder / "parts/1.jsonl", [{"text": "new"}]) if how == "part" else None
    uri = "file://./" + {"same": "train.jsonl", "part": "parts"}.get(how, "held-out.jsonl")
    project.edit(gate={"data": {"uri": uri}})
    result = still(command, str(project.file))
    assert (result.code, result.out) == (2, "")
    line = line_of(project, f"uri: {uri}")  # the gate stands first in the file
    assert f"spec.gate.data.uri (line {line}): the data leaks: the rows of spec.gate.data are also in spec.distill" in result.err
    assert "fix: " in result.err


def test_a_gate_that_reads_the_calibration_file_is_refused(still: Still, project: Project) -> None:
    project.edit(compress={"calibration": {"uri": "file://./gate.jsonl"}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "the rows of spec.gate.data are also in spec.compress.calibration" in result.err


def test_validation_that_reads_what_it_judges_or_is_judged_by_is_refused(still: Still, project: Project) -> None:
    project.edit(distill={"validation": {"uri": "file://./gate.jsonl"}})
    assert "the rows of spec.gate.data are also in spec.distill.validation" in still("lint", str(project.file)).err
    write_table(project.folder / "pairs.jsonl", [{"query": "left", "document": "right"}])
    pairs = {"uri": "file://./pairs.jsonl"}
    project.edit(distill={"validation": pairs})
    assert still("lint", str(project.file)).code == 0
    project.edit(distill={"data": {**pairs, "columns": {"text": "document"}}})
    result = still("lint", str(project.file))
    assert result.code == 2
    assert "the rows of spec.distill.validation are also in spec.distill.data" in result.err


def test_one_file_that_is_no_leak(still: Still, project: Project) -> None:
    project.edit(compress={"calibration": {"uri": "file://./train.jsonl"}}, index={"data": {"uri": "file://./train.jsonl"}})
    assert still("lint", str(project.file)).code == 0, "training data calibrates, and can be searched"
    write_table(project.folder / "both.jsonl", [{"left": "a", "right": "b"}])
    both = {side: {"uri": "file://./both.jsonl", "columns": {"text": side}} for side in ("left", "right")}
    project.edit(distill={"data": both["left"]}, gate={"data": both["right"]})
    assert still("lint", str(project.file)).code == 0, "other columns may hold other texts; the build compares them"
    for name, first in (("a", "x"), ("b", "y")):
        (project.folder / name).mkdir()
        write_table(project.folder / name / "1.jsonl", [{"text": first}])
        write_table(project.folder / name / "2.jsonl", [{"text": "shared"}])
    cut = [{"uri": f"file://./{name}", "maxRows": 1} for name in ("a", "b")]
    project.edit(distill={"data": cut[0]}, gate={"data": cut[1]})
    assert still("lint", str(project.file)).code == 0, "what is cut off is not read"

"""From text to a resource: every kind of bad file gives a SpecError that says where and what to write."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.api_objects import COMPLETE, complete, edited, leaves

from stillhouse.api.load import MAX_BYTES, load_file, load_text, parse
from stillhouse.api.model import DistilledModel
from stillhouse.errors import NotAvailable, SpecError

TEXT = """\
apiVersion: stillhouse.io/v1alpha1
kind: DistilledModel
metadata:
  name: docstring-search
spec:
  source: {uri: "models:minilm", task: sentence-embedding}
  distill:
    student:
      hiddenLayers: 2
      hiddenSize: 192
    data: {uri: "data:docstrings"}
    stages:
    - losses:
      - kind: embedding
        weight: "1"
      epochs: 4
  gate:
    data: {uri: "data:search-gate"}
    metrics:
    - {name: mrr@10, min: "70%", of: teacher}
    maxLatencyP99: 20ms
"""


def changed(old: str, new: str) -> str:
    assert TEXT.count(old) == 1
    return TEXT.replace(old, new)


def refused(text: str) -> SpecError:
    with pytest.raises(SpecError) as error:
        load_text(text, name="file.yaml")
    return error.value


def test_a_valid_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(TEXT)

    model = load_file(file)

    assert model.metadata.name == "docstring-search"
    assert model.spec.distill is not None
    assert model.spec.distill.stages[0].losses[0].weight == "1"
    assert model.spec.serve.batching.max_batch_size == 32  # a default


@pytest.mark.parametrize("base", COMPLETE)
def test_what_is_written_is_read_back(base: str) -> None:
    model = parse(complete(base))

    text = yaml.safe_dump(model.model_dump(by_alias=True, exclude_none=True, mode="json"))

    assert load_text(text) == model


# --- where it stands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("hiddenSize: 192", "hidenSize: 192", "spec.distill.student.hidenSize (line 10)"),
        ('weight: "1"', "weight: 0.5", "spec.distill.stages[0].losses[0].weight (line 15)"),
        ("epochs: 4", "epochs: many", "spec.distill.stages[0].epochs (line 16)"),
        ("maxLatencyP99: 20ms", "maxLatencyP99: 20", "spec.gate.maxLatencyP99 (line 21)"),
        ('    data: {uri: "data:docstrings"}\n', "", "spec.distill.data (line 7)"),  # missing: the line of what lacks it
        ("of: teacher", "of: teachers", "spec.gate.metrics[0].of (line 20)"),
        ("hiddenLayers: 2\n", "hiddenLayers: 2\n      attentionHeads: 7\n", "spec.distill.student.hiddenSize (line 11)"),
        ("docstring-search", "Docstring_Search", "metadata.name (line 4)"),
    ],
)
def test_the_line_is_right(old: str, new: str, field: str) -> None:
    assert refused(changed(old, new)).problem.place == field


def test_lines_count_from_the_start_of_the_file() -> None:
    text = "# a comment\n---\n" + changed("hiddenSize: 192", "hidenSize: 192")

    assert refused(text).problem.place == "spec.distill.student.hidenSize (line 12)"


@pytest.mark.parametrize(
    ("old", "new"), [("      hiddenSize:", "     hiddenSize:"), ("      hiddenSize:", "        hiddenSize:")]
)
def test_a_line_that_is_indented_otherwise_is_told_to_be_looked_at(old: str, new: str) -> None:
    assert "check the indentation" in refused(changed(old, new)).problem.fix


def test_a_syntax_error_shows_line_and_column() -> None:
    error = refused(changed("hiddenSize: 192", "hiddenSize: [192"))

    assert error.problem.place.startswith("file.yaml:1")
    assert "not readable as YAML" in error.problem.message


# --- what it says ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fix"),
    [
        ("hiddenSize: 192", "hidenSize: 192", "write hiddenSize"),
        ("hiddenSize: 192", "hidden_size: 192", "write hiddenSize"),
        ("maxLatencyP99: 20ms", "maxlatencyp99: 20ms", "write maxLatencyP99"),
        ("  gate:\n", "  gates:\n", "write gate"),
        ("hiddenSize: 192", "colour: red", "remove colour"),
        ("    stages:\n", "    epochs: 3\n    stages:\n", "write stages[].epochs or search.epochs"),
        ("task: sentence-embedding", "task: sentence-similarity", "write sentence-embedding"),
        ("of: teacher", "of: teachers", "write teacher"),
        ("kind: embedding", "kind: embeddings", "write embedding"),
        ('weight: "1"', "weight: 0.5", 'write "0.5"'),
        ('min: "70%"', "min: 70", 'write "70"'),
        ("maxLatencyP99: 20ms", "maxLatencyP99: 20", 'write for example "20ms"'),
        ("maxLatencyP99: 20ms", "maxLatencyP99: 100", 'write for example "100ms"'),
        ("maxLatencyP99: 20ms", 'maxLatencyP99: "100"', "write for example 100ms"),
        ("      epochs: 4\n", "      epochs: 4\n      warmup: 80\n", 'write for example "80%"'),
        ("epochs: 4", 'epochs: "4"', "write 4"),
        ("docstring-search", "2026", 'put it in quotes: "2026"'),
        ("kind: DistilledModel", "kind: DistiledModel", "write DistilledModel"),
        ('    data: {uri: "data:docstrings"}\n', "", "add data:"),
        ("name: mrr@10", "name: acuracy", "write accuracy"),
        ("name: mrr@10", "name: mrr", "write mrr@10"),
        ("maxLatencyP99: 20ms", "maxSize: 16MB", "write 16M or 16Mi"),
        ("maxLatencyP99: 20ms", "maxSize: 16 kb", "write 16k or 16Ki"),
        ("maxLatencyP99: 20ms", "maxSize: 16MiB", "write 16Mi"),
        ("maxLatencyP99: 20ms", "maxSize: 1.2345MB", ""),
        ("maxLatencyP99: 20ms", "maxSize: large", ""),
        ("      epochs: 4\n", '      epochs: 4\n      earlyStopping: {minGain: "0.1%"}\n', 'write "0.001"'),
        ("      epochs: 4\n", '      epochs: 4\n      earlyStopping: {minGain: "10%"}\n', 'write "0.1"'),
        ("      epochs: 4\n", '      epochs: 4\n      warmup: "0.1"\n', 'write "10%"'),
    ],
)
def test_the_way_out_is_named(old: str, new: str, fix: str) -> None:
    error = refused(changed(old, new))

    assert error.problem.fix == fix
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("task", "losses", "place", "fix"),
    [
        ("class", [{"kind": "logits"}, {"kind": "embedding"}], "losses[1].kind", "kind: logits"),
        ("class", [{"kind": "logits"}, {"kind": "embedding", "temperature": "2"}], "losses[1].kind", "kind: logits"),
        ("text", [{"kind": "hard", "temperature": "2"}], "losses[0].kind", "kind: embedding"),
    ],
)
def test_a_loss_of_another_task_is_told_first_with_one_of_this_task(
    task: str, losses: list[dict[str, str]], place: str, fix: str
) -> None:
    with pytest.raises(SpecError) as caught:
        parse(edited(complete(task), {"spec.distill.stages[0].losses": losses}))
    first, *others = caught.value.problems
    assert "belong to task sentence-embedding" in first.message
    assert (first.field, first.fix) == (f"spec.distill.stages[0].{place}", fix)
    assert len(others) == sum("temperature" in loss for loss in losses), "the other mistake is told too"


def test_only_what_this_version_can_do_is_allowed() -> None:
    problem = refused(changed("  gate:\n", "  compress: {precision: int9}\n  gate:\n")).problem

    assert problem.field == "spec.compress.precision"
    for now in ("auto", "fp32", "int8", "int4", "mixed", "fp16", "bf16"):
        assert now in problem.allowed
    assert problem.fix.startswith("write ")


def test_a_task_that_writes_text_is_told_apart_from_a_typing_mistake() -> None:
    problem = refused(changed("task: sentence-embedding", "task: text-generation")).problem

    assert problem.field == "spec.source.task"
    assert "write text" in problem.message
    assert "text-classification" not in problem.fix


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "write hf://sentence-transformers/all-MiniLM-L6-v2"),
        ("./teacher", "write file://./teacher"),
        ("teacher", "write file://./teacher"),
        ("/models/teacher", "write file:///models/teacher"),
    ],
)
def test_a_path_or_a_name_of_the_hub_gets_its_scheme(written: str, fix: str) -> None:
    assert refused(changed('uri: "models:minilm"', f"uri: {written}")).problem.fix.startswith(fix)
    data = refused(changed('uri: "data:docstrings"', f"uri: {written}")).problem.fix
    assert data.startswith("write file://"), "data are not taken from the hub"


def test_a_wrong_unit_is_shown_beside_the_right_ones() -> None:
    problem = refused(changed("20ms", "20 millis")).problem

    assert problem.found == "20 millis"
    assert "us, ms, s, m or h" in problem.allowed


def test_an_unknown_field_is_shown_beside_the_known_ones_without_the_reserved() -> None:
    problem = refused(changed("hiddenSize: 192", "width: 192")).problem

    assert problem.message == "unknown field"
    assert "hiddenSize" in problem.allowed

    problem = refused(changed("  gate:\n", "  packings: {}\n  gate:\n")).problem
    assert "packing" not in problem.allowed
    assert problem.fix == "remove packings"


def test_the_message_holds_all_parts_in_order() -> None:
    text = str(refused(changed("hiddenSize: 192", "hidenSize: 192")))

    lines = text.splitlines()
    assert lines[0] == "spec.distill.student.hidenSize (line 10): unknown field"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["found", "allowed", "fix"]


def test_a_reserved_name_is_not_available_and_has_its_line() -> None:
    with pytest.raises(NotAvailable) as error:
        load_text(changed("  gate:\n", "  packing: {with: other}\n  gate:\n"))

    assert error.value.problem.place == "spec.packing (line 17)"
    assert error.value.problem.message == "not available in this version"
    assert error.value.reason == "NotAvailable"


# --- what is no resource at all ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT + "---\n" + TEXT, "must hold one resource"),
        ("", "must hold one resource"),
        ("# nothing but a comment\n", "must hold one resource"),
        ("- a\n- b\n", "is a mapping"),
        ("just text", "is a mapping"),
        ("42", "is a mapping"),
        (changed("hiddenSize: 192", "hiddenSize: 192\n      hiddenSize: 96"), "hiddenSize stands here twice"),
        (changed("hiddenSize: 192", "7: 192"), "keys are strings"),
        (changed("hiddenSize: 192", "? [a, b]\n      : 192"), "keys are strings"),
        ("a: &x {b: 1}\nc: *x\n", "aliases are not allowed"),
        ("a: &x [*x]\n", "aliases are not allowed"),
        ("a: !!python/object/apply:os.system [echo]\n", "not readable as YAML"),
        ("a: !!binary aGk=\n", "not readable as YAML"),
        ("a: !!set {b, c}\n", "not readable as YAML"),
        ("<<: {kind: DistilledModel}\n", "unknown field"),
        ("a: \x00\n", "not readable as YAML"),
        ("[" * 1000, "more than 64 levels"),
        ("{a: " * 5000 + "1", "more than 64 levels"),
        ("a: '" + "x" * MAX_BYTES + "'\n", "too large"),
    ],
)
def test_what_is_no_resource_is_refused(text: str, says: str) -> None:
    assert says in str(refused(text))


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("a: &x {b: 1}\nc: *x\n", "write out here"),
        (changed("hiddenSize: 192", "hiddenSize: 192\n      hiddenSize: 96"), "remove one of the two"),
        (changed("hiddenSize: 192", "7: 192"), "in quotes"),
        ("a: !!binary aGk=\n", "remove the tag"),
        ("a: !mine b\n", "remove the tag"),
        ("[" * 1000, "mend the indentation"),
        ("a: \x00\n", "do not print"),
        (f"a: {'9' * 5000}\n", "digits"),
        ("a:\n\tb: 1\n", "indent with spaces"),
        ("spec:\n  task text\n  uri: a\n", "this line or the one above"),
        ("spec:\n  ? a\nb\n", "write a colon"),
        (TEXT + "---\n" + TEXT, "a file of its own"),
        ("", "examples/"),
    ],
)
def test_what_cannot_be_read_says_its_own_way_out(text: str, fix: str) -> None:
    assert fix in refused(text).problem.fix


@pytest.mark.parametrize(("written", "read"), [("1:30", "1:30"), ("1:30.5", "1:30.5"), ("1e3", 1000.0), ("0x10", 16), ("010", 8)])
def test_numbers_are_those_of_kubectl(written: str, read: Any) -> None:
    problem = refused(changed("hiddenSize: 192", f"hidenSize: {written}")).problem
    assert yaml.safe_load(problem.found) == (read if isinstance(read, str) else pytest.approx(read))


def test_very_many_mistakes_are_counted_and_not_listed() -> None:
    error = refused(changed("hiddenSize: 192", "\n      ".join(f"x{number}: 1" for number in range(20_000))))
    assert len(error.problems) == 51
    assert error.problems[-1].message == "19950 more mistakes are not listed"


def test_aliases_cannot_unfold_into_something_huge() -> None:
    """Ten levels of ten aliases each would be 10^10 items."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    assert "aliases" in str(refused("\n".join(levels)))


def test_empty_documents_around_the_resource_do_not_count() -> None:
    assert load_text("---\n---\n" + TEXT + "---\n# the end\n") == load_text(TEXT)


def test_a_date_is_text() -> None:
    assert (
        load_text(changed("data:docstrings", "data:x").replace("docstring-search", "d2026-11-22")).metadata.name == "d2026-11-22"
    )
    assert parse(yaml.safe_load(TEXT)) == load_text(TEXT)
    labels = "  source: {uri: 'file://m', task: text-classification, labels: [2026-11-22, b]}\n"
    text = "\n".join(TEXT.splitlines()[:5]) + "\n" + labels
    assert load_text(text).spec.source.labels == ("2026-11-22", "b")


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "distilledmodel.yaml").write_text(TEXT)

    with pytest.raises(SpecError) as error:
        load_file(tmp_path / "distiledmodel.yaml")

    assert "there is no such file" in error.value.problem.message
    assert "distilledmodel.yaml" in error.value.problem.allowed


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: \xe4\n"])
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.yaml"
    file.write_bytes(content)

    with pytest.raises(SpecError, match="not UTF-8"):
        load_file(file)


def test_a_folder_and_a_huge_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_file(tmp_path)

    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(64 << 30)  # sparse: read whole, it would not fit into memory
    with pytest.raises(SpecError, match="too large"):
        load_file(huge)


# --- whatever comes ----------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
yaml_pieces = st.lists(
    st.sampled_from(
        ["a", "spec", ": ", "- ", "\n", "  ", "{", "}", "[", "]", ",", "'", '"', "&x ", "*x", "!!", "!", "|", ">", "---\n", "...",
         "? ", "%YAML", "<<", "=", "1e9", "0x", ".nan", "~", "\t", "#", "\\ud800", "1:30", "2026-11-22", "é", "\x85"]
    )
)  # fmt: skip


@given(st.text() | yaml_pieces.map("".join))
@settings(max_examples=400, deadline=None)
def test_arbitrary_text_raises_nothing_but_spec_errors(text: str) -> None:
    with pytest.raises(SpecError) as error:
        load_text(text)

    assert str(error.value)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_arbitrary_values_anywhere_raise_nothing_but_spec_errors(data: st.DataObject) -> None:
    base = complete(data.draw(st.sampled_from(sorted(COMPLETE))))
    path = data.draw(st.sampled_from(sorted(path for path, _ in leaves(base))))
    place: Any = copy.deepcopy(base)
    root = place
    *way, last = [int(part[1:-1]) if part.startswith("[") else part for part in path.replace("[", ".[").split(".")]
    for part in way:
        place = place[part]
    place[last] = data.draw(json_values)
    try:
        accepted = load_text(yaml.safe_dump(root))
    except SpecError as error:
        assert error.problems
        str(error).encode("utf-8", "backslashreplace")
    else:
        assert isinstance(accepted, DistilledModel)


@given(json_values)
@settings(max_examples=200, deadline=None)
def test_arbitrary_data_raise_nothing_but_spec_errors(value: Any) -> None:
    with pytest.raises(SpecError):
        parse(value)

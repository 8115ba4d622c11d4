"""What a user sees when something is wrong: which field, what was found, what is allowed, the fix, and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.cli import Project

import stillhouse.api.crd
from stillhouse.entrypoints.cli import COMMANDS
from stillhouse.errors import GateFailed, GateInconclusive, ServerError

from .conftest import Still

GOOD = """apiVersion: stillhouse.io/v1alpha1
kind: DistilledModel
metadata: {name: tiny}
spec:
  source: {uri: models:tiny, task: sentence-embedding}
  compress: {precision: int8}
"""


def write(text: str) -> str:
    Path("model.yaml").write_text(text)
    return "model.yaml"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("precision: int8", "precison: int8"), ["spec.compress.precison", "precision"]),
        (GOOD.replace("int8", "fp8"), ["spec.compress.precision", "fp8", "auto", "int8", "fp32"]),
        (GOOD + "  serve: {batching: {maxQueueDelay: 5}}\n", ["spec.serve.batching.maxQueueDelay", "5", "ms"]),
        (GOOD + "  variants: [a]\n", ["spec.variants", "not available in this version"]),
        (GOOD.replace("name: tiny", "name: Tiny_"), ["metadata.name", "Tiny_"]),
        (GOOD.replace("spec:\n", "spec:\n\t- x\n"), ["model.yaml"]),
        ("", ["model.yaml"]),
        ("[1, 2]", ["model.yaml"]),
        (GOOD.replace("DistilledModel", "Deployment"), ["kind", "Deployment", "DistilledModel"]),
    ],
)
def test_lint_of_a_bad_file(still: Still, text: str, words: list[str]) -> None:
    result = still("lint", "--no-sources", write(text))
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    for word in words:
        assert word in result.err
    assert any(part in result.err for part in ("found:", "allowed:", "fix:"))
    assert "Traceback" not in result.err


def test_lint_says_the_line_of_each_of_several_mistakes(still: Still) -> None:
    text = GOOD.replace("precision: int8", "precision: fp8") + "  serve: {instances: 0}\n"
    result = still("lint", "--no-sources", write(text))
    assert result.code == 2
    assert "spec.compress.precision" in result.err
    assert "spec.serve.instances" in result.err
    assert "line 6" in result.err or ":6" in result.err
    assert "line 7" in result.err or ":7" in result.err


def test_a_field_that_no_resource_has_is_told_with_its_file(still: Still) -> None:
    Path("model.yaml").write_text(GOOD + "specs: {}\n")
    result = still("lint", "model.yaml")
    assert result.code == 2
    assert "model.yaml: specs (line " in result.err


def test_every_mistake_is_an_error_of_the_file(still: Still) -> None:
    text = GOOD.replace("precision: int8", "precision: int9").replace("name: tiny", "name: Tiny_") + "  serve: {instances: 0}\n"
    heads = [line for line in still("lint", "--no-sources", write(text)).err.splitlines() if not line.startswith(" ")]
    fields = ("metadata.name (line 3)", "spec.compress.precision (line 6)", "spec.serve.instances (line 7)")
    assert len(heads) == len(fields)
    for head, field in zip(heads, fields, strict=True):
        assert head.startswith(f"error: model.yaml: {field}: ")
    missing = still("plan", write(GOOD.replace("metadata: {name: tiny}\n", "")))
    assert missing.err.startswith("error: model.yaml: metadata: is required")
    assert still("lint", write("a: [")).err.count("model.yaml") == 1


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_errors_are_data_where_data_was_asked_for(still: Still, output: str) -> None:
    read = json.loads if output == "json" else yaml.safe_load
    text = GOOD.replace("precision: int8", "precision: int9") + "  serve: {instances: 0}\n"
    result = still("lint", "--no-sources", "-o", output, write(text))
    plain = still("lint", "--no-sources", write(text))
    assert (result.code, result.err) == (plain.code, plain.err)
    found = read(result.out)
    assert (found["error"], found["exitCode"]) == ("InvalidSpec", 2)
    places = {problem["field"]: problem for problem in found["problems"]}
    precision = places["spec.compress.precision"]
    assert (precision["line"], precision["found"]) == (6, "int9")
    assert "int8" in precision["allowed"]
    assert places["spec.serve.instances"]["line"] == 7
    assert {tuple(problem) for problem in found["problems"]} == {("field", "line", "found", "allowed", "fix", "message")}

    (problem,) = read(still("plan", "-o", output, write("a: [")).out)["problems"]
    assert (problem["field"], problem["line"]) == ("model.yaml", 1)
    (problem,) = read(still("status", "unknown", "-o", output).out)["problems"]
    assert (problem["field"], problem["line"], problem["found"]) == ("NAME", None, "unknown")
    for line in (["lint"], ["bench", "x", "-n", "1"]):  # the rest of the line is wrong
        usage = still(*line, "-o", output)
        assert usage.code == read(usage.out)["exitCode"] == 2
        assert read(usage.out)["problems"][0]["message"] in usage.err


def test_every_kind_of_error_is_data(still: Still, monkeypatch: pytest.MonkeyPatch) -> None:
    from stillhouse.entrypoints.local import inspecting

    for error in (GateFailed("a limit was missed"), ServerError("it died", field="127.0.0.1:8001", fix="still up FILE")):
        monkeypatch.setattr(inspecting, "inspect", lambda name, error=error: (_ for _ in ()).throw(error))
        result = still("status", "-o", "json")
        found = json.loads(result.out)
        assert (result.code, found["exitCode"], found["error"]) == (error.exit_code, error.exit_code, error.reason)
        assert found["problems"][0]["field"] == error.problem.field
        assert still("status").out == ""


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_lint_of_a_good_file(still: Still, output: str) -> None:
    result = still("lint", "--no-sources", "-o", output, write(GOOD))
    assert result.code == 0
    assert (json.loads if output == "json" else yaml.safe_load)(result.out) == {"name": "tiny", "valid": True, "warnings": []}
    assert still("lint", "--no-sources", write(GOOD)).out == "model.yaml: tiny is valid\n"


def p99(requests: int, repeats: int) -> str:
    return GOOD + (
        f"  gate: {{data: {{uri: data:x}}, maxLatencyP99: 20ms, load: {{requests: {requests}}}, repeats: {repeats}}}\n"
    )


@pytest.mark.parametrize(("repeats", "fewest"), [(1, 184), (3, 92), (4, 74)])
def test_lint_warns_of_a_99th_percentile_that_so_few_requests_cannot_bound(still: Still, repeats: int, fewest: int) -> None:
    assert fewest * (repeats + 1) >= 368 > (fewest - 1) * (repeats + 1)
    result = still("lint", "--no-sources", write(p99(fewest - 1, repeats)))
    assert result.code == 0
    (warning,) = (line for line in result.out.splitlines() if line.startswith("warning: "))
    assert warning.startswith("warning: spec.gate.load.requests: ")
    assert warning.endswith(f"write {fewest} or more")
    assert "spec.gate.maxLatencyP99" in warning
    listed = json.loads(still("lint", "--no-sources", "-o", "json", write(p99(fewest - 1, repeats))).out)
    assert [f"warning: {each}" for each in listed["warnings"]] == [warning]
    assert "warning" not in still("lint", "--no-sources", write(p99(fewest, repeats))).out
    assert "warning" not in still("lint", "--no-sources", write(p99(50, repeats).replace("P99", "P50"))).out


def test_lint_warns_of_a_perfect_figure_that_no_number_of_rows_shows(still: Still) -> None:
    def warned(metric: str) -> str:
        return still("lint", "--no-sources", write(GOOD + f"  gate: {{data: {{uri: data:x}}, metrics: [{metric}]}}\n")).out

    said = warned('{name: neighbour-overlap@5, min: "100%"}')
    assert "warning: spec.gate.metrics[0].min: no number of rows shows neighbour-overlap@5 100%" in said
    assert "warning" not in warned('{name: neighbour-overlap@5, min: "99%"}')
    assert "warning" not in warned('{name: mrr@10, min: "100%", of: teacher}')


@pytest.mark.parametrize("command", ["lint", "plan", "build", "up"])
def test_a_file_that_is_not_there(still: Still, command: str) -> None:
    result = still(command, "nowhere.yaml")
    assert result.code == 2
    assert "nowhere.yaml" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "line",
    [
        ["infer", "{}", "text"], ["status", "{}"], ["logs", "{}"], ["down", "{}"], ["rebuild", "{}"], ["bench", "{}"],
        ["gc", "--forget", "{}"], ["compare", "{}", "{}"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["unknown", "../../etc", "-x-", "", "Ünknown"])
def test_a_model_that_is_not_there(still: Still, line: list[str], name: str) -> None:
    words = [line[0], *(["--"] if "--forget" not in line else []), *(word.format(name) for word in line[1:])]
    result = still(*words)
    assert (result.code, result.out) == (2, ""), result.err
    assert "Traceback" not in result.err
    assert "allowed:" in result.err or "fix:" in result.err
    assert not Path("../store/models").exists(), "asking leaves nothing behind"


def test_known_models_are_named(still: Still, tmp_path: Path) -> None:
    from stillhouse.clients.store.local import LocalStore

    LocalStore(tmp_path / "store").write_state("digits", {"name": "digits"})
    for command in ("infer", "status", "down", "rebuild", "bench"):
        result = still(command, "digit", *(["text"] if command == "infer" else []))
        assert result.code == 2
        assert "found:   digit\n" in result.err
        assert "allowed: digits" in result.err
    assert "not being served" in still("infer", "digits", "text").err


@pytest.mark.parametrize("value", ["models:tiny", "tiny=file:///x", "models:tiny=", "=x"])
def test_a_source_that_is_bound_wrongly(still: Still, value: str) -> None:
    result = still("plan", "--source", value, write(GOOD))
    assert result.code == 2
    assert f"--source: a source is bound as KIND:NAME=URI\n  found:   {value}" in result.err


def test_a_named_source_that_is_not_bound(still: Still) -> None:
    result = still("plan", write(GOOD))
    assert result.code == 2
    assert "spec.source.uri" in result.err
    assert "models:tiny" in result.err
    assert "fix:" in result.err


def test_the_command_line_binds_before_the_settings_file(still: Still, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", tmp_path / "store", tmp_path / "cache").create(gate=False, index=False)
    plain = json.loads(still("plan", "-o", "json", str(project.file)).out)
    Path("stillhouse.yaml").write_text("sources: {'models:tiny': 'file://./wrong'}")  # not beside the file: does not count
    assert json.loads(still("plan", "-o", "json", str(project.file)).out)["planHash"] == plain["planHash"]
    other = project.folder / "other"
    (project.folder / "teacher").rename(other)
    gone = still("plan", str(project.file))
    assert gone.code == 2
    assert "spec.source.uri" in gone.err
    assert "teacher" in gone.err
    bound = still("plan", "-o", "json", "--source", f"models:tiny=file://{other}", str(project.file))
    assert json.loads(bound.out)["planHash"] == plain["planHash"], "the same bytes are the same plan, wherever they lie"
    here = still("plan", "-o", "json", "--source", f"models:tiny={os.path.relpath(other)}", str(project.file))
    assert here.code == 0, f"relative to where the command runs: {here.err}"


@pytest.mark.parametrize(
    "text", ["sources: [a]", "source: {}", "sources: {tiny: file://x}", "sources: {'models:a': 3}", "a: [", "\x00"]
)
def test_a_settings_file_that_is_wrong(still: Still, text: str) -> None:
    Path("stillhouse.yaml").write_text(text)
    for command in ("plan", "lint", "build"):
        result = still(command, write(GOOD))
        assert result.code == 2
        assert "stillhouse.yaml" in result.err
        assert "Traceback" not in result.err
    assert still("lint", "--no-sources", write(GOOD)).code == 0


def test_a_bug_is_one_line_and_a_file(still: Still, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def broken() -> str:
        raise ZeroDivisionError("a figure of speech")

    monkeypatch.setattr(stillhouse.api.crd, "render", broken)
    result = still("crd")
    assert (result.code, result.out) == (1, "")
    assert "bug in Stillhouse: ZeroDivisionError: a figure of speech" in result.err
    assert "Traceback" not in result.err
    path = Path(result.err.partition("traceback: ")[2].strip())
    kept = path.read_text()
    assert "Traceback (most recent call last)" in kept
    assert "a figure of speech" in kept


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GateFailed("no candidate met every limit"), 3),
        (GateInconclusive("the gate could not tell"), 4),
        (ServerError("it died"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_kind_of_end_has_its_code(still: Still, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int) -> None:
    def ended() -> str:
        raise error

    monkeypatch.setattr(stillhouse.api.crd, "render", ended)
    result = still("crd")
    assert result.code == code
    assert str(error) in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("line", [["crd"], ["--help"], ["status", "--help"], ["completion", "bash"]])
def test_a_reader_that_goes_away_is_no_error(line: list[str]) -> None:
    code = f"from stillhouse.entrypoints.cli import main; main({line!r})"
    read, written = os.pipe()
    os.close(read)
    try:
        done = subprocess.run([sys.executable, "-c", code], stdout=written, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(written)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_is_a_file(still: Still) -> None:
    folder = Path(stillhouse.__file__).parent / "entrypoints/commands"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == {module for module, _ in COMMANDS.values()}

"""Help: complete, with examples, and without loading what a command needs to do its work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stillhouse import __version__
from stillhouse.entrypoints.cli import COMMANDS

from .conftest import Still

HEAVY = (
    "torch", "transformers", "onnxruntime", "onnx", "datasets", "pyarrow", "grpc", "tritonclient", "numpy", "pydantic",
    "tokenizers", "yaml", "rich", "psutil", "stillhouse.api", "stillhouse.passes", "stillhouse.clients", "stillhouse.planning",
)  # fmt: skip

PROBE = """
import contextlib, io, json, sys
from stillhouse.entrypoints import cli
codes = {}
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        codes[" ".join(words)] = cli.run(words)
print(json.dumps({"codes": codes, "modules": sorted(sys.modules)}))
"""


def test_help_names_every_command_and_every_exit_code(still: Still) -> None:
    result = still("--help")
    assert result.code == 0
    assert "Example:" in result.out
    listed = result.out.partition("Commands:")[2]
    for name, (_, summary) in COMMANDS.items():
        assert f"  {name} " in listed
        assert summary in listed
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert f"\n    {code}  " in result.out
    assert still("-h").out == result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(still: Still, name: str) -> None:
    result = still(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: still {name}") or f" {name} [" in result.out
    example = result.out.partition("Example:")[2].partition("Options:")[0]
    assert f"still {name}" in example
    assert COMMANDS[name][1].rstrip(".").split(";")[0] in " ".join(result.out.split()), "one command, one description"


def test_help_loads_nothing_that_only_work_needs() -> None:
    """In a fresh process: what is imported for help costs every start."""
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(lines)], capture_output=True, text=True, check=True, env={**os.environ}
    )
    found = json.loads(done.stdout)
    assert set(found["codes"].values()) == {0}
    assert [name for name in HEAVY if name in found["modules"]] == []


def test_planning_and_printing_need_no_framework(tmp_path: Path) -> None:
    """`plan`, `lint`, `status`, `crd` and `gc` plan and read; torch, transformers and onnxruntime are for the passes."""
    from tests.support.cli import Project

    project = Project(tmp_path / "project", tmp_path / "home", tmp_path / "cache").create()
    file = str(project.file)
    lines = [["plan", file], ["lint", file], ["status"], ["crd"], ["gc", "--dry-run"], ["plan", "-o", "json", file]]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(lines)], capture_output=True, text=True, check=True, env=project.environment()
    )
    found = json.loads(done.stdout)
    assert set(found["codes"].values()) == {0}, done.stderr
    heavy = ("torch", "transformers", "onnxruntime", "datasets", "onnx", "accelerate")
    assert [name for name in heavy if name in found["modules"]] == []


@pytest.mark.parametrize(("value", "sent"), [(None, False), ("0", True)])
def test_onnx_runtime_sends_no_telemetry_unless_it_is_asked_to(tmp_path: Path, value: str | None, sent: bool) -> None:
    """It leaves a device id under the cache folder where it sends."""
    environment = {key: text for key, text in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    for name in ("CI", "TF_BUILD", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST"):
        environment.pop(name, None)
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    if value is not None:
        environment["ORT_DISABLE_TELEMETRY"] = value
    code = "import os, stillhouse, onnxruntime; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (value or "1")
    if not sent:
        assert not list(tmp_path.rglob("deviceid"))


def test_the_version(still: Still) -> None:
    assert still("--version").out.strip() == f"still, version {__version__}"


def test_a_misspelt_command_is_recognised(still: Still) -> None:
    result = still("stauts")
    assert result.code == 2
    assert "Did you mean: still status?" in result.err
    assert "`still --help` lists the commands" in still("xyzzy").err


@pytest.mark.parametrize(
    ("line", "likely"),
    [
        (["up", "--detatch", "f.yaml"], "--detach"),
        (["gc", "--dryrun"], "--dry-run"),
        (["status", "--ouput", "json"], "--output"),
    ],
)
def test_a_misspelt_option_is_recognised(still: Still, line: list[str], likely: str) -> None:
    result = still(*line)
    assert result.code == 2
    assert likely in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "line",
    [["up"], ["infer"], ["bench", "x", "-n", "1"], ["up", "--port", "70000", "f"], ["status", "-o", "xml"], ["compare", "a"]],
)
def test_a_wrong_command_line_ends_with_2_and_shows_the_usage(still: Still, line: list[str]) -> None:
    result = still(*line)
    assert result.code == 2
    assert "Usage: " in result.err
    assert f"{line[0]} -h" in result.err or f"{line[0]} --help" in result.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(still: Still, tmp_path: Path, shell: str) -> None:
    result = still("completion", shell)
    assert result.code == 0
    assert "_STILL_COMPLETE" in result.out
    if shutil.which(shell):
        script = tmp_path / f"completion.{shell}"
        script.write_text(result.out)
        subprocess.run([shell, "-n", str(script)], check=True)


def test_completion_of_commands_and_of_models(tmp_path: Path) -> None:
    from stillhouse.clients.store.local import LocalStore

    store = LocalStore(tmp_path / "home")
    for name in ("docstring-search", "digits"):
        store.write_state(name, {"name": name})

    def complete(words: str) -> str:
        variables = {"_STILL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        environment = {**os.environ, **variables, "STILLHOUSE_HOME": str(tmp_path / "home")}
        code = "import sys; sys.argv[0] = 'still'; from stillhouse.entrypoints.cli import main; main()"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment).stdout

    assert "plain,status" in complete("still st")
    assert complete("still infer d").split() == ["plain,digits", "plain,docstring-search"]

"""Files whose gateways ask each other are refused by name, before a request goes round for ever."""

from __future__ import annotations

from pathlib import Path

from tests.unit.cli.conftest import Still

STEPS = """\
apiVersion: stillhouse.io/v1alpha1
kind: DistilledModel
metadata: {{name: {name}}}
spec:
  source: {{uri: "file://none", task: text-classification}}
  edge:
    preprocess: {{model: {model}, steps: [{{kind: window, length: 8, hop: 4}}]{more}}}
"""


def write(path: str, name: str, model: str, more: str = "") -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(STEPS.format(name=name, model=model, more=more))


def test_a_circle_over_the_files_of_a_folder_and_those_built_here(still: Still) -> None:
    write("a.yaml", "a", "b")
    write("b.yaml", "b", "c")
    write("elsewhere/c.yaml", "c", "d")
    for file in ("a.yaml", "b.yaml", "elsewhere/c.yaml"):
        assert still("lint", file).code == 0
    assert still("build", "elsewhere/c.yaml").code == 0
    write("elsewhere/c.yaml", "c", "a")
    for verb in ("lint", "build"):
        refused = still(verb, "b.yaml")
        assert refused.code == 2
        assert "b.yaml: spec.edge.preprocess.model (line 7)" in refused.err
        assert "b asks c, c asks a, a asks b" in refused.err
    assert still("lint", "--no-sources", "b.yaml").code == 0
    write("a.yaml", "a", "b", ", address: 'grpcs://b.example:443'")
    assert still("lint", "b.yaml").code == 0


def test_one_of_its_own_name_may_be_elsewhere(still: Still) -> None:
    write("a.yaml", "a", "a")
    assert still("lint", "a.yaml").code == 0


def test_files_that_are_none_are_passed_over(still: Still) -> None:
    write("a.yaml", "a", "b")
    for name, content in (("broken.yaml", "a: ["), ("list.yaml", "[1, 2]"), ("odd.yml", "kind: DistilledModel\nmetadata: 3")):
        Path(name).write_text(content)
    Path("binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert still("lint", "a.yaml").code == 0

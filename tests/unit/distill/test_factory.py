"""Finding a user's factory: beside the file, by digest, never in place of the standard library."""

import sys

import pytest
from pydantic import ValidationError

from stillhouse.errors import SourceError
from stillhouse.passes.models import factory
from stillhouse.passes.models.architecture import Architecture, FactoryCall


@pytest.fixture
def beside(tmp_path, monkeypatch):
    monkeypatch.setenv(factory.FACTORY_PATH_VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))  # a call adds to it
    return tmp_path


def test_a_function_beside_the_file_is_called_with_its_arguments(beside):
    (beside / "shapes.py").write_text("def make(width, deep=False):\n    return (width, deep)\n")
    assert factory.call(FactoryCall(target="shapes:make", arguments={"width": 3, "deep": True})) == (3, True)


def test_a_changed_source_is_refused(beside):
    file = beside / "shapes.py"
    file.write_text("def make():\n    return 1\n")
    call = FactoryCall(target="shapes:make", digest=factory.source_digest("shapes:make"))
    assert factory.call(call) == 1
    file.write_text("def make():\n    return 2\n")
    with pytest.raises(SourceError, match="not the one"):
        factory.call(call)


def test_a_file_named_like_a_module_of_the_library_replaces_nothing(beside):
    (beside / "json.py").write_text("def make():\n    return 'mine'\n")
    assert factory.call(FactoryCall(target="json:make")) == "mine"
    import json

    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("target", "source", "message"),
    [
        ("nowhere_at_all:make", None, "was not found"),
        ("empty:make", "", "no such function"),
        ("broken:make", "import nowhere_at_all", "cannot be imported"),
        ("failing:make", "def make():\n    raise KeyError('width')", "failed: KeyError"),
        ("ending:make", "import sys\ndef make():\n    sys.exit(0)", "the factory ended the process: SystemExit"),
        ("script:make", "import sys\ndef make(): ...\nsys.exit()", "cannot be imported: SystemExit"),
    ],
)
def test_what_is_wrong_is_said(beside, target, source, message):
    if source is not None:
        (beside / (target.partition(":")[0] + ".py")).write_text(source)
    with pytest.raises(SourceError, match=message) as caught:
        factory.call(FactoryCall(target=target), field="spec.distill.student.factory")
    problem = caught.value.problem
    assert caught.value.exit_code == 2
    assert problem.field.startswith("spec.distill.student.factory")
    assert target.partition(":")[0] in problem.found
    assert problem.allowed
    assert problem.fix


def test_the_function_that_is_there_is_offered(beside):
    (beside / "shapes.py").write_text("from os.path import join\ndef make():\n    return 1\n")
    with pytest.raises(SourceError) as caught:
        factory.call(FactoryCall(target="shapes:mak"), field="spec.source.factory")
    problem = caught.value.problem
    assert (problem.field, problem.found, problem.fix) == (
        "spec.source.factory.target", "shapes:mak", "write target: shapes:make",
    )  # fmt: skip


def test_architecture_survives_its_file(tmp_path):
    for architecture in (
        Architecture(kind="hf-encoder", pooling="mean", projection=384, normalize=True),
        Architecture(kind="hf-classifier"),
        Architecture(kind="factory", factory=FactoryCall(target="a.b:c", arguments={"x": 1, "y": "z", "w": True})),
    ):
        architecture.write(tmp_path)
        assert Architecture.read(tmp_path) == architecture


def test_a_newer_or_damaged_architecture_is_refused(tmp_path):
    (tmp_path / "architecture.json").write_text('{"kind": "hf-classifier", "version": 2}')
    with pytest.raises(SourceError, match="not readable"):
        Architecture.read(tmp_path)
    with pytest.raises(ValidationError):
        Architecture(kind="hf-encoder")


@pytest.mark.parametrize(
    "source",
    [
        "def make(): ...",
        "class make: ...",
        "make = lambda: None",
        "from elsewhere import make",
        "import elsewhere as make",
        "try:\n    from fast import make\nexcept ImportError:\n    from slow import make",
        "if True:\n    def make(): ...",
        "from elsewhere import *",
        "def __getattr__(name): ...",
        "globals()['make'] = print",
        "a, make = 1, print",
        "def prepare():\n    global make\n    make = print",
    ],
)
def test_what_may_be_there_once_the_file_has_run_is_let_pass(beside, source):
    (beside / "shapes.py").write_text(source + "\n")
    factory.check_function("shapes:make")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def mak(): ...", "no such function"),
        ("def outer():\n    def make(): ...", "no such function"),
        ("class Outer:\n    make = print", "no such function"),
        ("def make(:", "cannot be imported"),
    ],
)
def test_a_function_that_cannot_be_there_is_told_without_running_the_file(beside, source, message):
    (beside / "shapes.py").write_text(source + "\nraise SystemExit\n")
    with pytest.raises(SourceError, match=message) as refused:
        factory.check_function("shapes:make", field="spec.distill.student.factory")
    assert refused.value.problem.field == "spec.distill.student.factory.target"

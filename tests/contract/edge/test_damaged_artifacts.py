"""What a gateway loads was damaged, or written by somebody else: exit 2 with field, found and fix, and never an answer of it."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.artifacts import artifact, context
from tests.support.cascades import DIGEST, write_cascade
from tests.support.gateway_process import refused
from tests.support.tiny_model import write_tiny_model

from stillhouse.edge.assembly.gateway import assemble
from stillhouse.edge.config import read as read_config
from stillhouse.errors import SourceError, SpecError, StillhouseError
from stillhouse.inference.engine import Engine
from stillhouse.inference.signature import Task
from stillhouse.passes.compress.cut import CutConfig, CutModel

NAMES = ["read a file", "path name write", "write the name"]
NONSENSE = (None, True, -1, 10**400, 2**63, 1e999, float("nan"), 1.5, "x", "", [], {}, [None], ["\ud800"], [10**400])
RAW = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 5_000, b"9" * 5_000, b"\0" * 100)


def written(folder: Path, task: Task) -> Path:
    """Write a model and its cascade, and a configuration with a watch."""
    write_tiny_model(folder / "edge", task=task)
    more: dict[str, Any] = {}
    if task == "sentence-embedding":
        write_tiny_model(folder / "cloud", dimension=24, seed=1)
        edge, larger = Engine(folder / "edge").embed(NAMES), Engine(folder / "cloud").embed(NAMES)
        more = {"names": NAMES, "edge": edge, "larger": larger}
    histogram = {"version": 1, "edges": [0.2, 0.5], "counts": [1, 2, 3], "abstained": 0}
    solved = {"point": {"escalation": {"estimate": 0.2, "low": 0.1, "high": 0.3}}}
    write_cascade(folder / "cascade", task=task, solved=solved, confidences=histogram, **more)
    config = folder / "gateway.json"
    larger_at = {"kind": "backends", "model": "large", "backends": {"127.0.0.1:1": 1.0}}
    config.write_text(
        json.dumps({
            "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
            "edge": {"kind": "engine", "folder": str(folder / "edge"), "digest": DIGEST, "variant": "int8"},
            "cascade": {"folder": str(folder / "cascade"), "larger": larger_at},
            "agreement": {"sample": 0.1},
        })
    )  # fmt: skip
    return config


def started(config: Path) -> None:
    """Build what a gateway is made of, and end it."""

    async def main() -> None:
        parts = await assemble(read_config(config), lambda _: "", 1 << 20)
        for close in parts.closing:
            await close()

    asyncio.run(main())


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands in a document; of lists the first."""
    yield path
    inner = data.items() if isinstance(data, dict) else enumerate(data[:1]) if isinstance(data, list) else ()
    for key, value in inner:
        yield from leaves(value, (*path, key))


def with_other(data: Any, path: tuple[Any, ...], value: object) -> Any:
    """Give a document with something else in one place."""
    if not path:
        return value
    data = copy.deepcopy(data)
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return data


@pytest.mark.parametrize("task", ["text-classification", "sentence-embedding", "image-classification"])
def test_nonsense_in_any_place_of_any_file_is_an_answer_and_no_traceback(tmp_path: Path, task: Task) -> None:
    """A third of all that could stand in each place, another one of each; what is let through does no harm to a start."""
    config = written(tmp_path, task)
    started(config)
    chance = random.Random(task)
    for file in (
        tmp_path / "edge" / "signature.json",
        tmp_path / "cascade" / "cascade.json",
        tmp_path / "cascade" / "names.json",
    ):
        if not file.exists():
            continue
        good = file.read_bytes()
        for content in RAW:
            file.write_bytes(content)
            with pytest.raises(SourceError):
                started(config)
        data = json.loads(good)
        for path in leaves(data):
            for value in chance.sample(NONSENSE, 5):
                file.write_text(json.dumps(with_other(data, path, value)))
                fails_well(config, f"{file.name} {path} {value!r:.30}", must=not path)
        file.write_bytes(good)
    started(config)


@pytest.mark.parametrize("kind", ["lower", "steps"])
def test_nonsense_in_a_cut_or_in_steps_is_an_answer_too(tmp_path: Path, kind: str) -> None:
    beyond = {"kind": "backends", "model": "large", "backends": {"127.0.0.1:1": 1.0}}
    folder = tmp_path / "edge"
    write_tiny_model(folder, task="text-classification")
    if kind == "lower":
        ctx = context(tmp_path)
        CutModel().run(CutConfig(at=("rows",)), {"model": artifact(folder, "onnx-model")}, ctx)
        folder, file = ctx.out, ctx.out / "cut.json"
    else:
        file = folder / "preprocess.json"
        file.write_text(json.dumps({"version": 1, "steps": [{"kind": "tokenise", "maxLength": 12}]}))
    config = tmp_path / "gateway.json"
    config.write_text(
        json.dumps({
            "version": 1, "name": "m", "listen": {"grpc": "127.0.0.1:0"},
            "edge": {"kind": kind, "folder": str(folder)},
            **({"cut": {"upper": beyond}} if kind == "lower" else {"preprocess": {"larger": beyond}}),
        })
    )  # fmt: skip
    started(config)
    chance = random.Random(kind)
    data = json.loads(file.read_bytes())
    for content in RAW:
        file.write_bytes(content)
        fails_well(config, f"{content!r:.20}", must=True)
    for path in leaves(data):
        for value in chance.sample(NONSENSE, 8):
            file.write_text(json.dumps(with_other(data, path, value)))
            fails_well(config, f"{path} {value!r:.30}", must=not path)


def fails_well(config: Path, what: str, *, must: bool) -> None:
    """Start; whatever is raised is the user's error, and says all that it takes to mend it."""
    try:
        started(config)
    except StillhouseError as error:
        problem = error.problem
        assert error.exit_code == 2 and problem.field, what
        assert problem.fix or isinstance(error, SpecError), what  # what a file's field is, its message says
    except BaseException as error:
        raise AssertionError(f"{what}: {error!r}") from error
    else:
        assert not must, what


@pytest.mark.parametrize("task", ["text-classification", "sentence-embedding", "image-classification"])
def test_bytes_that_were_turned_or_lost_are_an_answer_and_no_traceback(tmp_path: Path, task: Task) -> None:
    config = written(tmp_path, task)
    chance = random.Random(task)
    files = [tmp_path / "edge" / "model.onnx", tmp_path / "edge" / "tokenizer.json", *(tmp_path / "cascade").glob("*.npy")]
    for file in filter(Path.exists, files):
        good = file.read_bytes()
        for cut in (0, 1, len(good) // 2, len(good) - 1):
            file.write_bytes(good[:cut])
            fails_well(config, f"{file.name} cut to {cut}", must=True)
        for _ in range(40):
            turned = bytearray(good)
            at = chance.randrange(min(len(good), 3_000))
            turned[at] ^= 1 << chance.randrange(8)
            file.write_bytes(turned)
            fails_well(config, f"{file.name}, a bit of byte {at}", must=file.name == "tokenizer.json")
        file.unlink()
        fails_well(config, f"{file.name} away", must=True)
        file.mkdir()
        fails_well(config, f"{file.name} a folder", must=True)
        file.rmdir()
        file.write_bytes(good)
    started(config)


def changed(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data[name] = value

    return change


@pytest.mark.parametrize(
    ("task", "change", "field"),
    [
        ("text-classification", changed("labels", ["no", "yes"]), "labels"),
        ("text-classification", changed("dimension", 2), "labels"),
        ("sentence-embedding", changed("dimension", 17), "model.onnx"),
        ("text-classification", changed("tokenizer_digest", DIGEST), "tokenizer.json"),
        ("text-classification", lambda data: data.update(labels=["no", "yes"], dimension=2), "model.onnx"),
        ("text-classification", changed("max_length", 2**63), "max_length"),
        ("image-classification", lambda data: data["image"].update(std=[0.2, 0.0, 0.2]), "image.std"),
        ("image-classification", lambda data: data["image"].update(channels=4), "image.mean"),
    ],
)
def test_a_signature_that_is_of_another_model_is_no_start(
    tmp_path: Path, task: Task, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    config = written(tmp_path, task)
    file = tmp_path / "edge" / "signature.json"
    data = json.loads(file.read_bytes())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(SourceError) as caught:
        started(config)
    assert field in caught.value.problem.field
    assert caught.value.problem.found and caught.value.problem.allowed and caught.value.problem.fix


def test_the_process_tells_it_on_its_last_lines_and_ends_with_2(tmp_path: Path) -> None:
    config = written(tmp_path / "good", "text-classification")
    for name, content in (
        ("edge/signature.json", b"[" * 200_000),
        ("edge/model.onnx", b"\x08\x08"),
        ("cascade/cascade.json", b"{}"),
    ):
        shutil.rmtree(tmp_path / "bad", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "bad")
        (tmp_path / "bad" / name).write_bytes(content)
        damaged = tmp_path / "bad" / "gateway.json"
        damaged.write_text(config.read_text().replace(str(tmp_path / "good"), str(tmp_path / "bad")))
        code, said = refused("--config", str(damaged))
        assert code == 2 and "error: " in said and Path(name).name in said and "fix:" in said and "Traceback" not in said

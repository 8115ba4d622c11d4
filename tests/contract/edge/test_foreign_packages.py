"""A file of `still pack` that somebody else wrote: nothing of it leads out of the store, and what it says is looked at."""

from __future__ import annotations

import copy
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.edge.test_damaged_artifacts import NONSENSE, leaves, with_other
from tests.support.cascades import write_cascade
from tests.support.tiny_model import write_tiny_model

from stillhouse.clients.store.local import LocalStore
from stillhouse.edge.config import Engine, read
from stillhouse.entrypoints.edge.given import Given
from stillhouse.entrypoints.edge.packing import pack, unpack
from stillhouse.entrypoints.edge.preparing import prepare
from stillhouse.errors import StillhouseError

MODEL = {
    "apiVersion": "stillhouse.io/v1alpha1", "kind": "DistilledModel", "metadata": {"name": "m"},
    "spec": {
        "source": {"uri": "file://./x", "task": "text-classification"},
        "edge": {
            "cascade": {
                "larger": {"model": "large", "address": "grpc://127.0.0.1:1"},
                "data": {"uri": "file://./t.jsonl"}, "escalationBudget": "20%",
            },
        },
    },
}  # fmt: skip
Members = list[tuple[tarfile.TarInfo, bytes]]
OUT = ("sha256:../../../../etc", "../../etc/passwd", "sha256:" + "0" * 64, "a\x1b[2Jb")


@pytest.fixture
def packed(tmp_path: Path) -> Members:
    """Give what a good one holds."""
    store = LocalStore(tmp_path / "builder")
    folder = store.objects.new_dir()
    write_tiny_model(folder, task="text-classification")
    digest, _ = store.objects.put(folder, "onnx-model")
    folder = store.objects.new_dir()
    write_cascade(folder, digest=digest)
    cascade, _ = store.objects.put(folder, "cascade")
    (tmp_path / "m.yaml").write_text(json.dumps(MODEL))
    revision = {"digest": digest, "precision": "int8", "cascade": cascade, "lineage": {"sources": []}}
    store.write_state("m", {"name": "m", "file": str(tmp_path / "m.yaml"), "revision": revision})
    pack(store, "m", tmp_path / "good.still.tar")
    with tarfile.open(tmp_path / "good.still.tar") as archive:
        return [(each, archive.extractfile(each).read()) for each in archive.getmembers()]  # type: ignore[union-attr]


def started(folder: Path, members: Members) -> Path:
    """Write them, unpack them in a fresh store, and prepare a gateway; give the folder of its model."""
    file = folder / "foreign.still.tar"
    with tarfile.open(file, "w", format=tarfile.PAX_FORMAT) as archive:
        for about, content in members:
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    store = LocalStore(folder / "home")
    config = read(prepare(store, unpack(store, file), Given()).config)
    assert isinstance(config.edge, Engine)
    return config.edge.folder


def described(members: Members, change: Callable[[Any], Any]) -> Members:
    return [
        (copy.copy(about), json.dumps(change(json.loads(content))).encode() if about.name == "contents.json" else content)
        for about, content in members
    ]


def changes(members: Members) -> Iterator[tuple[str, Members]]:
    """Yield archives whose description has nonsense in one place."""
    contents = json.loads(next(content for about, content in members if about.name == "contents.json"))
    chance = random.Random(5)
    for path in leaves(contents):
        for value in (*chance.sample(NONSENSE, 3), *OUT):
            yield f"{path} {value!r:.30}", described(members, lambda data, path=path, value=value: with_other(data, path, value))


def test_whatever_it_says_of_itself_is_an_answer_and_stays_in_the_store(tmp_path: Path, packed: Members) -> None:
    good = started(tmp_path, packed)
    assert (good / "model.onnx").exists()
    for number, (what, members) in enumerate(changes(packed)):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            place = started(folder, members)
        except StillhouseError as error:
            assert error.problem.field, what
        except BaseException as error:
            raise AssertionError(f"{what}: {error!r}") from error
        else:
            assert place.is_relative_to(folder / "home" / "objects") and place.name == good.name, what


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("name", ["link", "../../../pwn", "a/../../pwn"])
def test_what_is_no_plain_file_of_an_artifact_is_not_unpacked(tmp_path: Path, packed: Members, kind: bytes, name: str) -> None:
    prefix = next(about.name for about, _ in packed if about.name.startswith("objects/")).rpartition("/")[0]
    about = tarfile.TarInfo(f"{prefix}/{name}")
    about.type, about.linkname = kind, "/etc/passwd"
    with pytest.raises(StillhouseError) as caught:
        started(tmp_path, [(about, b""), *packed])
    assert caught.value.exit_code == 2
    assert not list(tmp_path.rglob("pwn")) and not (tmp_path.parent / "pwn").exists()

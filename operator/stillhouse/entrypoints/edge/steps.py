"""The steps of a gateway that only preprocesses, as a folder: `preprocess.json` and what they read."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse.api.preprocess import Preprocess, chain_file
from stillhouse.clients.store.files import disk_errors, make_dirs, write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.digests import content_digest, file_digest
from stillhouse.errors import StillhouseError, StoreError, UsageError
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import CHAIN_FILE, Chain, load_chain
from stillhouse.inference.text import TOKENIZER_FILE

__all__ = ["packed_steps", "write_steps"]

_FIELD = "spec.edge.preprocess"


def write_steps(store: LocalStore, steps: Preprocess, folder: Path, sources: Sequence[Path], allowed: frozenset[str]) -> str:
    """Write the folder and return its digest: a gateway has what it was started with, whatever becomes of the originals.

    `sources`: where what the steps read is looked for, in this order. `allowed`: packages whose functions steps may call.

    Raises:
        UsageError: a file is nowhere. SpecError, SourceError: the steps do not fit together, or a file cannot be used; `field`
            is a place in the resource. StoreError: the disk is full.
    """
    data = chain_file(steps.steps)
    files = {}
    if any(step.kind == "tokenise" for step in steps.steps):
        files[TOKENIZER_FILE] = _found(TOKENIZER_FILE, sources)
    make_dirs(folder)
    for name, source in files.items():
        target = folder / name
        if source != target:
            part = target.with_name(f"{name}.part")
            with disk_errors(target):
                shutil.copyfile(source, part)
                part.replace(target)
    chain = _loaded(data, folder, allowed)
    write_json(folder / CHAIN_FILE, data, tmp=store.tmp)
    return content_digest({"chain": chain.digest, "files": {name: file_digest(folder / name) for name in files}})


def packed_steps(store: LocalStore, digest: str, file: Path, allowed: frozenset[str]) -> Path:
    """Return the folder of steps that `still build` packed, once they were loaded here.

    Raises:
        StoreError: they are damaged. SourceError, UnsafeSource: a function is not allowed here, or not there.
    """
    problem = store.objects.check(digest)
    if problem:
        raise StoreError(f"what was built is damaged: {problem}", field=_FIELD, fix=f"still build {file}")
    folder = store.objects.opened(digest)
    _loaded(json.loads((folder / CHAIN_FILE).read_bytes()), folder, allowed)
    return folder


def _loaded(data: Any, folder: Path, allowed: frozenset[str]) -> Chain:
    try:
        return load_chain(data, Around(folder, allowed), f"{_FIELD}.steps")
    except StillhouseError as error:
        if not error.problem.field.startswith(_FIELD):
            error.problem = dataclasses.replace(error.problem, field=f"{_FIELD}.{error.problem.field}")
        raise


def _found(name: str, sources: Sequence[Path]) -> Path:
    for each in sources:
        if (each / name).is_file():
            return each / name
    raise UsageError(
        f"a step needs {name}",
        field=f"{_FIELD}.steps",
        found="none in " + " or in ".join(map(str, sources)),
        fix=f"give --files FOLDER, in it the model's {name}",
    )

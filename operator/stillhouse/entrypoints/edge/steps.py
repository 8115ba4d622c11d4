"""The steps of a gateway that only preprocesses, as a folder: `preprocess.json` and what they read."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from stillhouse.api.preprocess import Preprocess, chain_file
from stillhouse.clients.store.files import disk_errors, make_dirs, write_json
from stillhouse.clients.store.local import LocalStore
from stillhouse.digests import content_digest, file_digest
from stillhouse.errors import StillhouseError, UsageError
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import CHAIN_FILE, load_chain
from stillhouse.inference.text import TOKENIZER_FILE

__all__ = ["write_steps"]

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
    try:
        chain = load_chain(data, Around(folder, allowed), f"{_FIELD}.steps")
    except StillhouseError as error:
        if not error.problem.field.startswith(_FIELD):
            error.problem = dataclasses.replace(error.problem, field=f"{_FIELD}.{error.problem.field}")
        raise
    write_json(folder / CHAIN_FILE, data, tmp=store.tmp)
    return content_digest({"chain": chain.digest, "files": {name: file_digest(folder / name) for name in files}})


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

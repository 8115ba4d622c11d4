"""`pack-steps`: the steps of a gateway that has no model, with the files that they read, as one artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.digests import file_digest
from stillhouse.errors import SourceError
from stillhouse.inference.preprocess.base import Around
from stillhouse.inference.preprocess.chain import CHAIN_FILE, load_chain
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.folder import SourceFolder, copy_file
from stillhouse.passes.sources.pinned import readable, refuse_changed
from stillhouse.passes.sources.tokenizer import inspect_tokenizer

__all__ = ["PackFacts", "PackSteps", "PackStepsConfig"]

_FIELD = "spec.edge.preprocess.steps"


class PackStepsConfig(PassConfig):
    """`chain` is the content of `preprocess.json`; `digest` that of the source, None where no step reads a file of it."""

    chain: dict[str, Any]
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class PackFacts:
    """What was packed. `chain`: digest of the steps as they are loaded, with every default.

    `inputs`, `outputs`: what the whole takes and gives (name, datatype, shape); `files`: name → digest of what steps read.
    """

    chain: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    files: dict[str, str]


class PackSteps(Pass[PackStepsConfig, PackFacts]):
    """Steps, and the source whose tokenizer they use → `steps`: `preprocess.json`, `tokenizer.json` where a step reads it."""

    name = "pack-steps"
    version = 1
    kind = "steps"
    config_type = PackStepsConfig

    def run(self, config: PackStepsConfig, inputs: Mapping[str, Artifact], ctx: Context) -> PackFacts:
        """Copy what is read, and load the steps as the gateway will: that they do not fit together is told here.

        A `python` step is taken at its word: its package is where it runs, and may not be here.

        Raises:
            SpecError: a field is wrong, or a step does not take what reaches it; with its place in the resource.
            SourceError, UnsafeSource: there is no tokenizer, or it cannot be used.
        """
        files: dict[str, str] = {}
        if config.digest is not None:
            if ctx.source is None or not ctx.source.exists():
                raise SourceError("the source is gone", field="source.uri", found=str(ctx.source), fix="run the command again")
            with readable(ctx, "source.uri"):
                files[TOKENIZER_FILE] = _tokenizer(ctx.source, ctx.out)
                refuse_changed(ctx.source, config.digest, "source.uri")
        chain = load_chain(config.chain, Around(ctx.out, declared=True), _FIELD)
        text = json.dumps(config.chain, indent=2, sort_keys=True, ensure_ascii=False)
        (ctx.out / CHAIN_FILE).write_text(text + "\n", encoding="utf-8")
        return PackFacts(
            chain.digest, [each.to_json() for each in chain.inputs], [each.to_json() for each in chain.outputs], files
        )


def _tokenizer(source: Path, out: Path) -> str:
    """Copy a model's tokenizer, judged as its import would; return its digest. No weights are read."""
    folder = SourceFolder.open(source if source.is_dir() else source.parent)
    inspect_tokenizer(folder, {}, None)
    copy_file(folder.path(TOKENIZER_FILE), out / TOKENIZER_FILE)
    return file_digest(out / TOKENIZER_FILE)

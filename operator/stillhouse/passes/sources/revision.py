"""`import-revision`: take what was built of another model of this store as it is, so that it counts in keys and lineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stillhouse.clients.store.objects import MANIFEST
from stillhouse.errors import SourceError
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.sources.folder import copy_file

__all__ = ["ImportRevision", "ImportRevisionConfig", "RevisionFacts"]


class ImportRevisionConfig(PassConfig):
    """`digest`: of the revision in the store."""

    digest: str


@dataclass(frozen=True, slots=True)
class RevisionFacts:
    """What was taken; the artifact has the same digest, since its files and its kind are the same."""

    source_digest: str
    files: int


class ImportRevision(Pass[ImportRevisionConfig, RevisionFacts]):
    """A revision of the store → the same, as a step's result."""

    name = "import-revision"
    version = 1
    kind = "revision"
    config_type = ImportRevisionConfig

    def run(self, config: ImportRevisionConfig, inputs: Mapping[str, Artifact], ctx: Context) -> RevisionFacts:
        """Copy `ctx.source`, file by file.

        Raises:
            SourceError: it is gone.
        """
        if ctx.source is None or not ctx.source.is_dir():
            raise SourceError(
                "what was built of the model between is gone", field="spec.edge.cascade.middle.model", found=config.digest
            )
        files = [each for each in sorted(ctx.source.rglob("*")) if each.is_file() and each.name != MANIFEST]
        for each in files:
            target = ctx.out / each.relative_to(ctx.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(each, target)
        return RevisionFacts(config.digest, len(files))

"""The agreement watch of a cascade, from its settings and what the artifact expects."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from stillhouse.edge.agreement.collecting import Collector
from stillhouse.edge.agreement.settings import Bounds, Collecting, Expected, Sampling, Settings
from stillhouse.edge.agreement.watch import Watch
from stillhouse.edge.assembly.parts import Parts
from stillhouse.edge.away.breaker import BreakerState
from stillhouse.edge.cascade.away import Way
from stillhouse.edge.cascade.policy import CASCADE_FILE
from stillhouse.edge.sections.watching import Agreement
from stillhouse.inference.drift import Reference

__all__ = ["watch_of"]

_log = logging.getLogger(__name__)


def watch_of(given: Agreement, folder: Path, way: Way, parts: Parts) -> Watch:
    """Build the watch of the cascade in `folder`; `way`: to the larger model."""
    artifact = json.loads((folder / CASCADE_FILE).read_bytes())  # an object: `load` has read it
    collecting = Collecting(given.collect.folder, given.collect.maxSize) if given.collect is not None else None
    collector = None
    if collecting is not None:
        collector = Collector(collecting, lambda text: text)  # the guard has masked before
    solved = artifact.get("verified") or artifact.get("solved")
    point = solved.get("point") if isinstance(solved, dict) else None
    watch = Watch(
        Settings(Sampling(share=given.sample), Bounds(agreement=given.minAgreement, psi=given.maxDrift), collecting),
        now=asyncio.get_running_loop().time,
        reference=Reference.from_json(artifact["confidences"]) if artifact.get("confidences") else None,
        expected=Expected.of_point(point),
        held=lambda: way.breaker.state is not BreakerState.CLOSED,
        collector=collector,
        on_change=lambda verdict: _log.warning("agreement: %s", json.dumps(verdict.to_json())),
    )
    parts.tasks.append(watch.run)
    return watch

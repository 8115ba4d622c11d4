"""The guard of a gateway, from its settings and the parts that it stands before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from stillhouse.edge.answering import Answering
from stillhouse.edge.guard.patterns import Rule
from stillhouse.edge.guard.shapes import Bounds
from stillhouse.edge.oip.models import Ask
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.screening.exposed import GuardMetrics
from stillhouse.edge.screening.journal import Journal
from stillhouse.edge.screening.known import Known
from stillhouse.edge.screening.recorder import Recorder
from stillhouse.edge.screening.screen import Screen
from stillhouse.edge.screening.settings import AuditSettings, ScreenSettings
from stillhouse.edge.sections.guarding import Audit, Guard, Pattern
from stillhouse.edge.wire.call import Call, Peer

__all__ = ["Guarding", "audit_of", "guarding", "screen_of"]


@dataclass(frozen=True, slots=True)
class Guarding:
    """`screens`: by model. `recorder`: None where nothing is recorded."""

    screens: Mapping[str, Screen] = field(default_factory=dict)
    recorder: Recorder | None = None

    @property
    def metrics(self) -> GuardMetrics:
        """Return what tells of it at /metrics."""
        return GuardMetrics(self.screens, self.recorder)

    def blocked(self) -> list[str]:
        """Return why this gateway answers nothing now: what `/readyz` fails with."""
        why = self.recorder.journal.blocked() if self.recorder is not None else None
        return [f"audit log: {why.problem.found}"] if why is not None else []

    def troubles(self) -> list[str]:
        """Return what is wrong and keeps no request from its answer: what `/readyz` says beside."""
        found = [
            f"what {model} takes is not known: {each.known.trouble}" for model, each in self.screens.items() if each.known.trouble
        ]
        if self.recorder is not None and not self.recorder.journal.required and self.recorder.journal.trouble:
            found.append(f"audit log: {self.recorder.journal.trouble}")
        return found

    async def run(self) -> None:
        """Do what is to be done beside the requests."""
        if self.recorder is not None:
            await self.recorder.journal.run()

    async def close(self) -> None:
        """Write what waits in the audit log."""
        if self.recorder is not None:
            await self.recorder.journal.close()


def guarding(
    screen: ScreenSettings | None,
    audit: AuditSettings | None,
    pools: Mapping[str, Pool],
    answering: Mapping[str, Answering],
    clock: Callable[[], float] = time.monotonic,
) -> Guarding | None:
    """Build the guard of these models; None where there is nothing to build.

    Raises:
        SpecError: a pattern is wrong. MissingPackages: RE2 is not installed. UsageError: the log's key cannot be read.
        StoreError: the log cannot be opened, and it is required.
    """
    screens: dict[str, Screen] = {}
    if screen is not None:
        for model, pool in pools.items():
            known = Known(model, _of_pool(pool, screen.patience_s), screen, clock, lambda pool=pool: pool.changes)  # type: ignore[misc]
            screens[model] = Screen(known, screen)
        for model, each in answering.items():
            screens[model] = Screen(Known(model, _of_itself(each), screen, clock), screen)
    recorder = Recorder(Journal(audit), audit, clock) if audit is not None else None
    return Guarding(screens, recorder) if screens or recorder is not None else None


def screen_of(given: Guard) -> ScreenSettings:
    """Return the settings that the gateway's configuration file has."""
    bounds = Bounds(message=given.maxMessageSize, characters=given.maxTextLength)
    rules = tuple(_rule(each) for each in given.patterns)
    return ScreenSettings(bounds, rows=given.maxRows, patterns=rules)


def audit_of(given: Audit, model: str, variant: str, digest: str) -> AuditSettings:
    """Return the settings that the gateway's configuration file has. `variant`, `digest`: of its model, "": it tells none."""
    told = {name: value for name, value in (("variant", variant), ("digest", digest)) if value}
    return AuditSettings(
        folder=given.folder,
        required=given.mode == "required",
        key=given.key,
        raw=given.raw,
        keep_s=given.keep,
        size=given.maxSize,
        known={model: told},
    )


def _rule(given: Pattern) -> Rule:
    return Rule(given.name, given.action, given.regex or "", given.named or "")


def _of_pool(pool: Pool, patience_s: float) -> Ask:
    async def ask(method: str, body: bytes) -> bytes:
        return (await pool.unary(method, body, told_s=patience_s)).message

    return ask


def _of_itself(answering: Answering) -> Ask:
    async def ask(method: str, body: bytes) -> bytes:
        return (await answering.about(Call(_Own(method), Peer(""), None), body)).message

    return ask


class _Own:
    """A request of the gateway's own to what it holds itself."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.headers: dict[str, bytes] = {}

"""The guard before a model, from its configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable

from stillhouse.edge import config as conf
from stillhouse.edge.guard.audit.chain import Chain, Rotation
from stillhouse.edge.guard.audit.inputs import Inputs
from stillhouse.edge.guard.audit.log import AuditLog
from stillhouse.edge.guard.audit.records import Key
from stillhouse.edge.guard.patterns import Patterns, Rule
from stillhouse.edge.guard.shapes import Bounds
from stillhouse.edge.guarded import Audited, Forwarded, Guarded, GuardMetrics, Screen, model_of_signature
from stillhouse.edge.route.pool import Pool
from stillhouse.edge.service import Answering, left_of, onward
from stillhouse.edge.wire.call import Call
from stillhouse.errors import StoreError
from stillhouse.inference.signature import Signature

__all__ = ["forwarded", "guard"]

_log = logging.getLogger(__name__)


def guard(
    config: conf.Config, given: conf.Guard, model: Answering, who: Callable[[Call], str]
) -> tuple[Guarded, GuardMetrics, Audited | None]:
    """Return a model behind its guard, the guard's metrics, and its audit log, which is to be closed.

    Raises:
        SpecError: a pattern is none. StoreError: the audit log is required and cannot be opened.
    """
    screen = None
    signature = _signature_of(config)
    if signature is not None:
        bounds = Bounds(message=given.maxMessageSize, characters=given.maxTextLength)
        rules = [Rule(each.named or each.name, each.action, each.regex or "") for each in given.patterns]
        patterns = Patterns(rules, "guard.patterns") if rules else None
        screen = Screen(model_of_signature(signature, given.maxRows), bounds, patterns)
    audit = _audit(given.audit) if given.audit is not None else None
    return Guarded(config.name, model, screen, audit, who), GuardMetrics(config.name, screen, audit), audit


def forwarded(pool: Pool) -> Forwarded:
    """Return a pool's model as something that answers."""
    return Forwarded(
        lambda: any(each.weight > 0 for each in pool.backends),
        lambda call, body: pool.unary(call.method, body, metadata=onward(call), told_s=left_of(call)),
    )


def _signature_of(config: conf.Config) -> Signature | None:
    """Return what the model takes; None where only its servers know."""
    if isinstance(config.edge, conf.Engine):
        return Signature.read(config.edge.folder)
    return Signature.read(config.cascade.folder) if config.cascade is not None else None


def _audit(given: conf.Audit) -> Audited:
    key = Key.read(given.key, "guard.audit.key") if given.key is not None else None
    required = given.mode == "required"
    size = max(1 << 16, min(16 << 20, given.maxSize // 8))
    rotation = Rotation(size=size, files=max(2, given.maxSize // size), kept=given.keep)
    log = None
    try:
        log = AuditLog(Chain(given.folder, key=key, rotation=rotation), full="refuse" if required else "drop")
    except StoreError as error:
        if required:
            raise
        _log.error("the audit log cannot be opened, requests are answered without it: %s", error)
    return Audited(log, Inputs(key, raw=given.raw), required=required)

"""`edge`: the gateway, its clients, its guard and what it does when nobody can be asked."""

from __future__ import annotations

from tests.support.api_objects.case import GONE, Case, bad
from tests.support.api_objects.fields import EDGE

__all__ = ["INVALID", "VALID"]

VALID: tuple[Case, ...] = (
    Case("several gateways without a claim", "text", {"spec.edge.run.claim": GONE, "spec.edge.run.replicas": 2}),
    Case("a gateway and nothing else", "image", {"spec.edge": {}}),
)

INVALID: tuple[Case, ...] = (
    bad("a sample of no percentage", "text", f"{EDGE}.agreement.sample", "0.01"),
    bad("a collector without its protocol", "text", f"{EDGE}.telemetry.endpoint", "collector:4318"),
    bad("a pattern of no name", "text", f"{EDGE}.guard.patterns[0].name", "Card Number"),
    bad("an unknown pattern", "text", f"{EDGE}.guard.patterns[1].named", "passport"),
    bad("a policy of none", "text", f"{EDGE}.away.policy", "drop"),
    Case("a queue of another policy", "text", {f"{EDGE}.away.policy": "fail"}, f"{EDGE}.away.queue", "belongs to policy queue"),
    Case("nobody to be away", "image", {"spec.edge": {"away": {"policy": "fail"}}}, f"{EDGE}.away.policy", "belong to a cascade"),
    Case("agreement with nobody", "image", {"spec.edge": {"agreement": {}}}, f"{EDGE}.agreement", "belongs to a cascade"),
    Case("a token for nobody", "text", {"spec.edge": {"backendToken": "halves"}}, f"{EDGE}.backendToken", "shown to a cascade's"),
    Case("a burst of no rate", "text", {f"{EDGE}.clients.rate": GONE}, f"{EDGE}.clients.burst", "belongs to rate"),
    Case("a claim of several gateways", "text", {"spec.edge.run.replicas": 2}, "spec.edge.run.claim", "one gateway"),
    Case("a claim of every node", "text", {"spec.edge.run.kind": "DaemonSet"}, "spec.edge.run.claim", "one gateway"),
    bad("three pods a node", "class", f"{EDGE}.run.replicas", 3, "one pod a node"),
    Case("two patterns in one", "text", {f"{EDGE}.guard.patterns[1].regex": "x"}, f"{EDGE}.guard.patterns[1].regex", "one of"),
)

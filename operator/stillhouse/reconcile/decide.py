"""Which revision serves and what is built: pure decisions, as ordered lists of small functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from stillhouse.api.broker import Mqtt
from stillhouse.api.load import parse
from stillhouse.api.model import DistilledModel
from stillhouse.errors import StillhouseError
from stillhouse.planning.build import request_hash
from stillhouse.planning.circles import field_of, told
from stillhouse.planning.request import uris
from stillhouse.planning.steps import steps_of
from stillhouse.reconcile.between import bind_middle
from stillhouse.reconcile.observed import Body, Observed
from stillhouse.reconcile.recorded import builds_of, gateway_of, is_steps, measured_of, serving_of
from stillhouse.resources import labels
from stillhouse.resources.wanted import Building, Gateway, Scaling, Serving

__all__ = ["Decision", "Verdict", "decide"]

_LOCAL = ("file://", "package://")
_REMOTE = ("pvc", "s3", "oci", "https", "http", "hf")
_PUSH = "still push FILE --to pvc://CLAIM uploads what a laptop has and binds it (ConfigMap stillhouse-sources)"
_CODE = (
    "{field}: {package} is none of the packages whose functions steps may call here (allowed are: {allowed}): ask the"
    " administrator for an image that has it and the chart's edge.packages, write another step, or run it at the edge"
    " (still edge FILE --allow-package {package})"
)
_ROUND = (
    "{field}: {circle}, and a request would go round for ever; name another DistilledModel of the namespace, or write address"
)
_BROKER_OF_CUT = (
    "spec.edge.cut.address: mqtt:// and mqtts:// are for a gateway at the edge (still edge FILE --cloud …);"
    " in a cluster leave address out for the pods of the same revision, or write grpcs://HOST:PORT"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why something is or is not: a documented reason, and words for people."""

    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reconcile goes by.

    `refused`: the spec cannot be carried out; `wanted` is the record of the build that the spec asks for (None: there is
    none yet); `serves` the accepted record that pods are to serve; `measured` how candidates are to be served; `builds` what
    a build's Jobs have; `build` whether Jobs must run, and `waits` for what they wait; `expired` are records that nobody needs
    any more; `frozen`: the spec cannot be read, so that what serves stays as it is; `gateway` is `spec.edge` before the
    revision that serves; `mqtt` the bridge to it. Of a revision that is steps and no model nothing is `serving`. `held`
    (below) is of models; `holds`: such steps serve, and the spec asks for something else, which is not there yet: their gateway
    stays as it is, since neither the steps' new model nor new limits were meant for them.
    """

    request: str
    bound: Mapping[str, str]
    scaling: Scaling
    refused: Verdict | None = None
    wanted: Body | None = None
    serves: Body | None = None
    serving: Serving | None = None
    measured: Serving | None = None
    builds: Building = field(default_factory=Building)
    build: bool = False
    waits: str = ""
    pinned: bool = False
    pin_missing: Verdict | None = None
    pin: str = ""
    expired: tuple[Body, ...] = ()
    frozen: bool = False
    gateway: Gateway | None = None
    mqtt: Mqtt | None = None
    holds: bool = False

    @property
    def steps(self) -> bool:
        """Whether what serves is steps before another model: gateways are all that there is."""
        return is_steps(self.serves)

    @property
    def held(self) -> bool:
        """Whether a pin holds another revision than the one that the rest of the spec asks for."""
        return self.pinned and self.serves is not self.wanted


def decide(observed: Observed, defaults: Mapping[str, str], packages: Collection[str] = ()) -> Decision:
    """Decide from what is there. `defaults` are the operator's bindings of named sources; the namespace's come first.

    `packages` are those whose functions a gateway's steps may call.
    """
    try:
        model = parse(_clean(observed.model))
    except StillhouseError as error:
        refused = Verdict(
            _reason(error), "; ".join(" ".join(problem.lines()).replace("  ", " ") for problem in error.problems)[:4000]
        )
        return _without_spec(observed, refused)
    unfit = _round(model, observed) or _unfit_steps(model, packages)
    if unfit is not None:
        return _without_spec(observed, unfit)
    cut = model.spec.edge.cut if model.spec.edge is not None else None
    if cut is not None and (cut.address or "").startswith("mqtt"):
        return _without_spec(observed, Verdict("NotAvailable", _BROKER_OF_CUT))
    bound, unusable = _bind(model, {**defaults, **observed.sources}, _unseen(observed))
    middle = bind_middle(model, observed)
    bound |= middle.digest
    unusable = unusable or (Verdict("SourceUnusable", middle.wrong) if middle.wrong else None)
    rebuild = model.metadata.annotations.get(labels.REBUILD, "")
    request = request_hash(model, bound, rebuild)
    scale = model.spec.scale
    scaling = Scaling(scale.mode, scale.min_replicas, scale.max_replicas, scale.replicas)
    wanted = next((each for each in observed.revisions if each["spec"]["requestHash"] == request), None)
    pin = model.spec.serve.pin
    held = _pinned(observed, pin) if pin else None
    serves = held if pin else wanted if wanted is not None and _accepted(wanted) else None
    missing = Verdict("PinNotFound", f"no accepted revision has digest {pin}") if pin and held is None else None
    serves = serves or _newest_accepted(observed)
    asked = serves is wanted or held is not None
    holds = is_steps(serves) and not (asked and steps_of(model.spec) is not None)
    return Decision(
        request=request,
        bound=bound,
        scaling=scaling,
        refused=unusable,
        wanted=wanted,
        serves=serves,
        serving=serving_of(serves, model) if serves and not is_steps(serves) else None,
        measured=measured_of(model),
        builds=builds_of(model),
        gateway=gateway_of(model.spec, serves) if serves and model.spec.edge is not None and not holds else None,
        mqtt=model.spec.serve.mqtt if serves else None,
        holds=holds,
        build=wanted is None and unusable is None,
        waits=middle.waits,
        pinned=held is not None,
        pin_missing=missing,
        pin=pin or "",
        expired=_expired(observed, (wanted, serves), model.spec.serve.revision_history_limit)
        if not unusable and not missing
        else (),
    )


def _round(model: DistilledModel, observed: Observed) -> Verdict | None:
    """Return why whom the gateway asks leads back to it, None where it does not."""
    if not observed.circle:
        return None
    itself = f"{model.metadata.name} is this model itself"
    spec = observed.model.get("spec")
    words = itself if len(observed.circle) == 2 else told(observed.circle)
    return Verdict("InvalidSpec", _ROUND.format(field=field_of(spec), circle=words))


def _unfit_steps(model: DistilledModel, packages: Collection[str]) -> Verdict | None:
    """Return why the steps of a spec cannot run in a cluster; None where they can, or there are none."""
    steps = steps_of(model.spec)
    if steps is None:
        return None
    for position, step in enumerate(steps.steps):
        module = (step.function or "").partition(":")[0]
        if step.function is not None and not any(module == each or module.startswith(f"{each}.") for each in packages):
            field, allowed = f"spec.edge.preprocess.steps[{position}].function", ", ".join(sorted(packages)) or "none"
            return Verdict("NotAvailable", _CODE.format(field=field, package=module.partition(".")[0], allowed=allowed))
    return None


def _clean(body: Body) -> Body:
    """Leave out the status: what we wrote there is not part of what is asked for."""
    return {name: value for name, value in body.items() if name != "status"}


def _reason(error: StillhouseError) -> str:
    return error.reason if error.reason in ("NotAvailable",) else "InvalidSpec"


def _without_spec(observed: Observed, refused: Verdict) -> Decision:
    """Go on with what served: a spec that cannot be read changes nothing."""
    serves = _newest_accepted(observed)
    spec = observed.model.get("spec")
    scale = spec.get("scale") if isinstance(spec, dict) else None
    scale = scale if isinstance(scale, dict) else {}

    def number(name: str) -> int:
        value = scale.get(name, 1)
        return value if isinstance(value, int) and value > 0 else 1

    mode = scale.get("mode") if scale.get("mode") in ("hpa", "cpu", "external") else "hpa"
    least = number("minReplicas")
    scaling = Scaling(str(mode), least, max(least, number("maxReplicas")), number("replicas"))
    serving = serving_of(serves, None) if serves and not is_steps(serves) else None
    return Decision("", {}, scaling, refused=refused, serves=serves, serving=serving, frozen=True)


def _unseen(observed: Observed) -> str:
    """Say why bindings may be there and not be seen: without its label their ConfigMap is not watched."""
    if observed.sources:
        return ""
    name, namespace = labels.SOURCES_NAME, observed.owner.namespace
    return (
        f". A ConfigMap {name} without label {labels.SOURCES_LABEL} is not read: if there is one,"
        f" kubectl label configmap {name} -n {namespace} {labels.SOURCES_LABEL} --overwrite"
    )


def _bind(model: DistilledModel, sources: Mapping[str, str], unseen: str) -> tuple[dict[str, str], Verdict | None]:
    """Return what every named URI of the spec is bound to, and why one of them cannot be used in a cluster."""
    bound: dict[str, str] = {}
    for place, uri in uris(model.spec).items():
        target = uri if "://" in uri else sources.get(uri, "")
        if not target:
            known = ", ".join(sorted(sources)) or "none"
            why = f"{place}: nothing is bound to {uri} here (bound are: {known}); {_PUSH}{unseen}"
            return bound, Verdict("SourceUnusable", why)
        if target.startswith(_LOCAL):
            return bound, Verdict("SourceUnusable", f"{place}: {target} is a place on one machine; {_PUSH}")
        scheme = target.partition("://")[0]
        if scheme not in _REMOTE:
            return bound, Verdict(
                "SourceUnusable",
                f"{place}: {target} cannot be fetched here; allowed are {', '.join(f'{each}://' for each in _REMOTE)}",
            )
        bound[uri] = target
    return bound, None


def _accepted(revision: Body) -> bool:
    return bool(revision["spec"]["outcome"] == "Accepted")


def _newest_accepted(observed: Observed) -> Body | None:
    return next((each for each in observed.revisions if _accepted(each)), None)


def _pinned(observed: Observed, digest: str) -> Body | None:
    return next((each for each in observed.revisions if _accepted(each) and each["spec"].get("digest") == digest), None)


def _expired(observed: Observed, needed: tuple[Body | None, ...], limit: int) -> tuple[Body, ...]:
    """Return the records beyond the `limit` newest of those that are not needed, accepted and failed ones each.

    What the present spec asks for is needed also where it failed: without its record it would be built again.
    """
    others = [each for each in observed.revisions if not any(each is one for one in needed)]
    accepted, failed = [each for each in others if _accepted(each)], [each for each in others if not _accepted(each)]
    return tuple(each for each in (*accepted[limit:], *failed[limit:]) if not each["metadata"].get("deletionTimestamp"))

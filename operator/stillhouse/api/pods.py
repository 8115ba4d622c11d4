"""`serve.podTemplate`: the part of a serving pod that is the user's. A bounded part of a Kubernetes PodTemplate, under its names.

Containers, volumes, security contexts, accounts and host settings are not in it: they decide what the pod may reach and
whether the gate's figures hold, and a pod of ours runs under Pod Security *restricted* whoever wrote its model.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from stillhouse.api.base import ApiModel, CelRule, without_nulls

__all__ = [
    "Affinity", "Expression", "NodeAffinity", "Placement", "PodAffinity", "PodMetadata", "PodSettings", "PodTemplate", "Spread",
    "Toleration",
]  # fmt: skip

LABEL_KEY: Final = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
LABEL_VALUE: Final = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
OBJECT_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
OURS: Final = ("app.kubernetes.io/component", "app.kubernetes.io/managed-by", "app.kubernetes.io/name", "pod-template-hash")
"""Labels by which we, our Services and the Deployment find our pods, beside everything below `stillhouse.io/`."""

Key = Annotated[str, StringConstraints(pattern=LABEL_KEY, min_length=1, max_length=317)]
Value = Annotated[str, StringConstraints(pattern=LABEL_VALUE, max_length=63)]
Name = Annotated[str, StringConstraints(pattern=OBJECT_NAME, min_length=1, max_length=253)]
Labels = Annotated[dict[str, Value], Field(max_length=32), BeforeValidator(without_nulls)]
Text = Annotated[str, StringConstraints(max_length=4096)]
Annotations = Annotated[dict[str, Text], Field(max_length=32), BeforeValidator(without_nulls)]
Weight = Annotated[int, Field(ge=1, le=100)]


def _keys_are_labels(field: str) -> CelRule:
    return CelRule(
        f"!has(self.{field}) || self.{field}.all(k, size(k) <= 317 && k.matches('{LABEL_KEY}'))",
        f"a key of {field} is not one of Kubernetes: letters, digits, - _ . and before a / a domain",
        field,
    )


def _keys_are_not_ours(field: str) -> CelRule:
    names = ", ".join(f"'{each}'" for each in OURS)
    return CelRule(
        f"!has(self.{field}) || self.{field}.all(k, !k.startsWith('stillhouse.io/') && !(k in [{names}]))",
        f"a key of {field} is Stillhouse's own: by it the pods are found; take another",
        field,
    )


def _check(keys: dict[str, str], malformed: CelRule, taken: CelRule | None = None) -> None:
    for key in keys:
        if len(key) > 317 or not re.fullmatch(LABEL_KEY, key):
            raise malformed.broken(fix=f"mend or remove {key[:80]}")
        if taken is not None and (key.startswith("stillhouse.io/") or key in OURS):
            raise taken.broken(fix=f"remove {key}")


_LABEL_KEYS, _ANNOTATION_KEYS, _NODE_KEYS = (
    _keys_are_labels("labels"),
    _keys_are_labels("annotations"),
    _keys_are_labels("nodeSelector"),
)
_LABELS_NOT_OURS, _ANNOTATIONS_NOT_OURS = _keys_are_not_ours("labels"), _keys_are_not_ours("annotations")
_MATCH_KEYS = _keys_are_labels("matchLabels")
_VALUE_OF_EXISTS = CelRule(
    "self.operator != 'Exists' || !has(self.value) || self.value == ''", "a toleration that Exists has no value", "value"
)
_KEY_OF_EQUAL = CelRule(
    "has(self.key) || self.operator == 'Exists'", "a toleration without a key needs operator Exists", "operator"
)
_SECONDS_OF_NO_EXECUTE = CelRule(
    "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
    "tolerationSeconds belongs to effect NoExecute",
    "tolerationSeconds",
)
_VALUES_FIT = CelRule(
    "self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : self.operator in ['Gt', 'Lt'] ? size(self.values) == 1"
    " : size(self.values) == 0",
    "In and NotIn take values, Gt and Lt one, Exists and DoesNotExist none",
    "values",
)
_PODS_HAVE_NO_ORDER = CelRule(
    "self.matchExpressions.all(e, !(e.operator in ['Gt', 'Lt']))", "Gt and Lt compare labels of nodes only", "matchExpressions"
)
_DOMAINS_OF_DO_NOT = CelRule(
    "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'", "minDomains belongs to DoNotSchedule", "minDomains"
)


class PodMetadata(ApiModel):
    """Labels and annotations of the pods, beside Stillhouse's own."""

    labels: Labels = Field(default={})
    """Further labels."""
    annotations: Annotations = Field(default={})
    """Further annotations."""

    cel_rules = (_LABEL_KEYS, _ANNOTATION_KEYS, _LABELS_NOT_OURS, _ANNOTATIONS_NOT_OURS)

    @model_validator(mode="after")
    def _keys(self) -> PodMetadata:
        _check(self.labels, _LABEL_KEYS, _LABELS_NOT_OURS)
        _check(self.annotations, _ANNOTATION_KEYS, _ANNOTATIONS_NOT_OURS)
        return self


class Toleration(ApiModel):
    """A taint that the pods tolerate."""

    key: Key | None = None
    """Key of the taint; without it every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Whether the value counts."""
    value: Value | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint; without it every effect."""
    toleration_seconds: Annotated[int | None, Field(ge=0, le=10_000_000)] = None
    """How long a pod stays after the taint came."""

    cel_rules = (_VALUE_OF_EXISTS, _KEY_OF_EQUAL, _SECONDS_OF_NO_EXECUTE)

    @model_validator(mode="after")
    def _fits(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise _VALUE_OF_EXISTS.broken(fix="remove value, or write operator: Equal")
        if self.key is None and self.operator != "Exists":
            raise _KEY_OF_EQUAL.broken(fix="write operator: Exists, or name the key")
        if self.toleration_seconds is not None and self.effect != "NoExecute":
            raise _SECONDS_OF_NO_EXECUTE.broken(fix="write effect: NoExecute")
        return self


class Expression(ApiModel):
    """A requirement on labels."""

    key: Key
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """What is asked of it."""
    values: Annotated[tuple[Value, ...], Field(max_length=32)] = ()
    """Values to compare with."""

    cel_rules = (_VALUES_FIT,)

    @model_validator(mode="after")
    def _fits(self) -> Expression:
        count = len(self.values)
        wrong = count == 0 if self.operator in ("In", "NotIn") else count != (1 if self.operator in ("Gt", "Lt") else 0)
        if wrong:
            raise _VALUES_FIT.broken()
        return self


class NodeTerm(ApiModel):
    """Requirements on a node's labels; all must hold."""

    match_expressions: Annotated[tuple[Expression, ...], Field(min_length=1, max_length=16)]
    """The requirements."""


class NodeTerms(ApiModel):
    """Terms, one of which must hold."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1, max_length=8)]
    """The terms."""


class PreferredNode(ApiModel):
    """A wish for nodes, with its weight."""

    weight: Weight
    """How much it counts, 1 to 100."""
    preference: NodeTerm
    """The requirements."""


class NodeAffinity(ApiModel):
    """Which nodes the pods must or should be on."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = None
    """What must hold."""
    preferred_during_scheduling_ignored_during_execution: Annotated[tuple[PreferredNode, ...], Field(max_length=8)] = ()
    """What should hold."""


class PodSelector(ApiModel):
    """Chooses pods of the model's namespace by their labels."""

    match_labels: Labels = Field(default={})
    """Labels that they must have."""
    match_expressions: Annotated[tuple[Expression, ...], Field(max_length=16)] = ()
    """Further requirements."""

    cel_rules = (_MATCH_KEYS, _PODS_HAVE_NO_ORDER)

    @model_validator(mode="after")
    def _fits(self) -> PodSelector:
        _check(self.match_labels, _MATCH_KEYS)
        if any(each.operator in ("Gt", "Lt") for each in self.match_expressions):
            raise _PODS_HAVE_NO_ORDER.broken()
        return self


class PodTerm(ApiModel):
    """Pods that the model's pods are to be near to, or far from."""

    label_selector: PodSelector
    """Which pods, in the model's namespace."""
    topology_key: Key
    """What near means: one value of this label of the nodes."""


class PreferredPod(ApiModel):
    """A wish to be near to or far from pods, with its weight."""

    weight: Weight
    """How much it counts, 1 to 100."""
    pod_affinity_term: PodTerm
    """Which pods."""


class PodAffinity(ApiModel):
    """Which pods the model's pods must or should be near to, or far from."""

    required_during_scheduling_ignored_during_execution: Annotated[tuple[PodTerm, ...], Field(max_length=8)] = ()
    """What must hold."""
    preferred_during_scheduling_ignored_during_execution: Annotated[tuple[PreferredPod, ...], Field(max_length=8)] = ()
    """What should hold."""


class Affinity(ApiModel):
    """Where the pods go. References never carry a namespace."""

    node_affinity: NodeAffinity | None = None
    """By labels of nodes."""
    pod_affinity: PodAffinity | None = None
    """Near to pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Far from pods."""


class Spread(ApiModel):
    """How the model's pods are spread. Which pods are counted is not asked: those of the same revision."""

    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """By how many the fullest place may exceed the emptiest."""
    topology_key: Key
    """What a place is: one value of this label of the nodes."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """Whether a pod waits where it cannot be kept."""
    min_domains: Annotated[int | None, Field(ge=1, le=1000)] = None
    """Fewest places that count."""

    cel_rules = (_DOMAINS_OF_DO_NOT,)

    @model_validator(mode="after")
    def _fits(self) -> Spread:
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise _DOMAINS_OF_DO_NOT.broken(fix="write whenUnsatisfiable: DoNotSchedule")
        return self


class PullSecret(ApiModel):
    """A Secret of the model's namespace."""

    name: Name
    """Its name."""


class Placement(ApiModel):
    """Where pods go. Not here: containers, volumes, security contexts, accounts, host settings."""

    node_selector: Labels = Field(default={})
    """Labels that a node must have."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] = ()
    """Taints that the pods tolerate."""
    affinity: Affinity | None = None
    """Where they go. In place of ours, the wish to be in different zones."""
    priority_class_name: Name | None = None
    """Their PriorityClass."""
    runtime_class_name: Name | None = None
    """Their RuntimeClass, for example `nvidia`."""
    image_pull_secrets: Annotated[tuple[PullSecret, ...], Field(max_length=8)] = ()
    """Secrets that images are pulled with, beside the administrator's."""

    cel_rules = (_NODE_KEYS,)

    @model_validator(mode="after")
    def _keys(self) -> Self:
        _check(self.node_selector, _NODE_KEYS)
        return self


class PodSettings(Placement):
    """Placement of the serving pods."""

    topology_spread_constraints: Annotated[tuple[Spread, ...], Field(max_length=4)] = ()
    """How they are spread. Left out: over nodes and zones, where that can be had."""


class PodTemplate(ApiModel):
    """What the serving pods have beside what Stillhouse gives them. A change is an ordinary rollout and builds nothing."""

    metadata: PodMetadata = PodMetadata()
    """Labels and annotations."""
    spec: PodSettings = PodSettings()
    """Placement."""

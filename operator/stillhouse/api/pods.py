"""`serve.podTemplate`: the part of a serving pod that is the user's. A bounded part of a Kubernetes PodTemplate, under its names.

Containers, volumes, security contexts, accounts and host settings are not in it: they decide what the pod may reach and
whether the gate's figures hold, and a pod of ours runs under Pod Security *restricted* whoever wrote its model.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stillhouse.api.affinity import Affinity
from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.labels import Annotations, Key, Labels, Name, Value, check, keys_are_labels, keys_are_not_ours

__all__ = ["Placement", "PodMetadata", "PodSettings", "PodTemplate", "Spread", "Toleration"]

_LABEL_KEYS, _ANNOTATION_KEYS, _NODE_KEYS = (
    keys_are_labels("labels"),
    keys_are_labels("annotations"),
    keys_are_labels("nodeSelector"),
)
_LABELS_NOT_OURS, _ANNOTATIONS_NOT_OURS = keys_are_not_ours("labels"), keys_are_not_ours("annotations")
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
        check(self.labels, _LABEL_KEYS, _LABELS_NOT_OURS)
        check(self.annotations, _ANNOTATION_KEYS, _ANNOTATIONS_NOT_OURS)
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
        check(self.node_selector, _NODE_KEYS)
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

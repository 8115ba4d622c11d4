"""Which nodes and which other pods the serving pods are to be near to, under Kubernetes' names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stillhouse.api.base import ApiModel, CelRule
from stillhouse.api.labels import Key, Labels, Value, check, keys_are_labels

__all__ = ["Affinity", "Expression", "NodeAffinity", "PodAffinity"]

Weight = Annotated[int, Field(ge=1, le=100)]

_MATCH_KEYS = keys_are_labels("matchLabels")
_VALUES_FIT = CelRule(
    "self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : self.operator in ['Gt', 'Lt'] ? size(self.values) == 1"
    " : size(self.values) == 0",
    "In and NotIn take values, Gt and Lt one, Exists and DoesNotExist none",
    "values",
)
_PODS_HAVE_NO_ORDER = CelRule(
    "self.matchExpressions.all(e, !(e.operator in ['Gt', 'Lt']))", "Gt and Lt compare labels of nodes only", "matchExpressions"
)


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
        check(self.match_labels, _MATCH_KEYS)
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

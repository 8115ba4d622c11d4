"""Labels, annotations and names as Kubernetes takes them, and which keys of pods are Stillhouse's own."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, StringConstraints

from stillhouse.api.base import CelRule, without_nulls

__all__ = ["Annotations", "Key", "Labels", "Name", "Value", "check", "keys_are_labels", "keys_are_not_ours"]

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


def keys_are_labels(field: str) -> CelRule:
    """Return the rule that the keys of a map are keys of labels."""
    return CelRule(
        f"!has(self.{field}) || self.{field}.all(k, size(k) <= 317 && k.matches('{LABEL_KEY}'))",
        f"a key of {field} is not one of Kubernetes: letters, digits, - _ . and before a / a domain",
        field,
    )


def keys_are_not_ours(field: str) -> CelRule:
    """Return the rule that no key of a map is ours."""
    names = ", ".join(f"'{each}'" for each in OURS)
    return CelRule(
        f"!has(self.{field}) || self.{field}.all(k, !k.startsWith('stillhouse.io/') && !(k in [{names}]))",
        f"a key of {field} is Stillhouse's own: by it the pods are found; take another",
        field,
    )


def check(keys: dict[str, str], malformed: CelRule, taken: CelRule | None = None) -> None:
    """Hold keys to `keys_are_labels` and, given, `keys_are_not_ours`.

    Raises:
        Mistake: one breaks them.
    """
    for key in keys:
        if len(key) > 317 or not re.fullmatch(LABEL_KEY, key):
            raise malformed.broken(fix=f"mend or remove {key[:80]}")
        if taken is not None and (key.startswith("stillhouse.io/") or key in OURS):
            raise taken.broken(fix=f"remove {key}")

"""The base of these passes' configurations: camelCase outside, as planning writes it, snake_case inside."""

from __future__ import annotations

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from stillhouse.passes.base import PassConfig

__all__ = ["CamelConfig"]


class CamelConfig(PassConfig):
    """A pass's configuration whose JSON names are camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

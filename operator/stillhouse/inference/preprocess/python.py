"""`python`: a function of a package that the settings allow. Everything else is refused before it is imported."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from stillhouse.errors import DataError, SourceError, SpecError, UnsafeSource
from stillhouse.inference.datatypes import Tensor, TensorSpec
from stillhouse.inference.preprocess.base import Around, Step, same_type
from stillhouse.inference.preprocess.config import limit

__all__ = ["PythonConfig", "PythonStep"]

_FUNCTION = re.compile(r"([A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*):([A-Za-z][A-Za-z0-9_]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class PythonConfig:
    """`function` is `package.module:function`; it is called with a map of its `inputs` and with `options` as keywords.

    It gives a map with exactly its `outputs`, of their types and shapes. A name that begins with an underscore is not called.
    """

    function: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.function) > 200 or not _FUNCTION.fullmatch(self.function):
            raise SpecError("no function", field="function", found=self.function[:80], allowed="package.module:function")
        for name, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            limit(1 <= len(specs) <= 16, name, f"{len(specs)} tensors", "1 to 16")
            limit(len({each.name for each in specs}) == len(specs), name, "a name twice", "each name once")


class PythonStep(Step[PythonConfig]):
    """It runs in this process with this process's rights: what is allowed is trusted."""

    kind: ClassVar[str] = "python"
    version: ClassVar[int] = 1
    config_type = PythonConfig

    def __init__(self, config: PythonConfig, around: Around) -> None:
        """Import the function.

        Raises:
            UnsafeSource: its package is not allowed, or the function comes from another package than it is named by.
            SourceError: there is no such function.
        """
        super().__init__(config, around)
        if around.declared:
            self._function: Callable[..., Any] = _elsewhere
            return
        module, _, name = config.function.partition(":")
        if not _within(module, around.allowed):
            raise _refused(config.function, around.allowed)
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise SourceError("there is no such function", field="function", found=str(error)[:200]) from error
        if not callable(function) or not _within(str(getattr(function, "__module__", "")), around.allowed):
            raise _refused(config.function, around.allowed)
        self._function = function

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """As declared."""
        return self.config.inputs

    def outputs(self, given: Mapping[str, TensorSpec]) -> tuple[TensorSpec, ...]:
        """As declared."""
        for wanted in self.config.inputs:
            spec = given[wanted.name]
            same_type(spec, (wanted.datatype,), len(wanted.shape), len(wanted.shape))
            if any(-1 not in pair and pair[0] != pair[1] for pair in zip(wanted.shape, spec.shape, strict=True)):
                raise SpecError("the step does not take this tensor", field=spec.name, found=str(spec), allowed=str(wanted))
        return self.config.outputs

    def run(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Call the function and look at what it gives."""
        for wanted in self.config.inputs:
            wanted.check(tensors[wanted.name])
        found = self._function({each.name: tensors[each.name] for each in self.config.inputs}, **self.config.options)
        names = {each.name for each in self.config.outputs}
        if (
            not isinstance(found, Mapping)
            or set(found) != names
            or not all(isinstance(each, np.ndarray) for each in found.values())
        ):
            given = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise DataError(
                "the function gives other tensors than are declared",
                field=self.config.function,
                found=given[:200],
                allowed=f"a map of arrays: {', '.join(sorted(names))}",
            )
        for spec in self.config.outputs:
            spec.check(found[spec.name])
        return dict(found)


def _elsewhere(*_: Any, **__: Any) -> Any:
    raise RuntimeError("the steps were loaded to be looked at, not to be run")


def _within(module: str, allowed: frozenset[str]) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in allowed)


def _refused(function: str, allowed: frozenset[str]) -> UnsafeSource:
    return UnsafeSource(
        "this function's package is not allowed",
        field="function",
        found=function,
        allowed=", ".join(sorted(allowed)) or "none: no package is allowed here",
        fix="have whoever runs this machine allow the package, or use another step",
    )

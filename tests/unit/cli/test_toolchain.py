"""What goes into receipts and keys beside a step's own configuration."""

from __future__ import annotations

import importlib.metadata

from stillhouse.entrypoints.local.workspace import toolchain
from stillhouse.planning.manifest import PASSES


def test_every_package_that_a_pass_needs_has_a_version() -> None:
    """An import name is not always the distribution's: under the wrong one, every version would be the same."""
    found = toolchain()
    assert set(found) == {need for entry in PASSES.values() for need in entry.needs}
    apart = {need for name in ("export-litert", "export-coreml") for need in PASSES[name].needs}  # in no lock: they are large
    everywhere = {
        need for name, entry in PASSES.items() if name not in ("export-litert", "export-coreml") for need in entry.needs
    }
    assert [name for name, version in found.items() if not version and name not in apart - everywhere] == []
    assert found["pytriton"] == importlib.metadata.version("nvidia-pytriton")

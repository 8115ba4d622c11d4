"""What a tier of tests does when the machine lacks something that it needs.

On a user's machine the tier is skipped and says why; where `CI=true` is set, an unrun tier is a failure, because
nobody would notice it otherwise.
"""

from __future__ import annotations

import os

import pytest

__all__ = ["require"]


def require(tier: str, reason: str | None) -> None:
    """Go on where the tier can run, else end the calling test or fixture.

    Args:
        tier: the tier's name (`triton`, `integration`, `cluster`), as in `tests/<tier>`.
        reason: what is missing and what would bring it, or `None` when nothing is.

    Raises:
        pytest.skip.Exception: something is missing on a user's machine. Also works while a module is imported.
        pytest.fail.Exception: something is missing and `CI=true`.
    """
    if reason is None:
        return
    message = f"tier {tier!r} cannot run: {reason}"
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"{message} (CI=true: every tier must run)", pytrace=False)
    pytest.skip(message, allow_module_level=True)

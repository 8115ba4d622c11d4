"""A worker that helps: it waits for what number 0 does alone, helps with what can be shared, and writes nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.support.passes import PASSES, Events, Write, WriteConfig, WriteFacts, draft, make_plan, make_runner

from stillhouse.clients.store.local import LocalStore
from stillhouse.errors import DataError
from stillhouse.passes.base import Artifact, Context, Settled, Workers
from stillhouse.passes.following import Follower
from stillhouse.passes.runner import Machine

HELPED: list[tuple[str, int, bool]] = []


class Shared(Write):
    """Writes as `Write` does; of helpers it remembers what they were given."""

    shared = True

    def run(self, config: WriteConfig, inputs: Mapping[str, Artifact], ctx: Context) -> WriteFacts:
        if not ctx.workers.index:
            return super().run(config, inputs, ctx)
        HELPED.append((config.text, ctx.workers.index, ctx.workers.settled()))
        if config.flag:
            Path(config.flag).touch()
        if config.trouble == "user":
            raise DataError("rows are missing", field="spec.distill.data")
        if ctx.workers.settled():
            raise Settled
        (ctx.out / "text").write_text("nobody reads this")
        return WriteFacts(0, 0, ctx.seed)


ALL = {**PASSES, "write": dataclasses.replace(PASSES["write"], target=f"{__name__}:Shared")}


def plan_of(trouble: str, *flags: str):
    """a, which number 0 does alone, then b, which is shared and has the trouble."""
    return make_plan(
        draft("train/a", "a", pass_name="choosy", trouble="wait" if flags else "", flag=flags[0] if flags else ""),
        draft("train/b", "b", ["train/a"], trouble=trouble, flag=flags[1] if flags else ""),
    )


def follower(store: Path, port: int, events: Events) -> Follower:
    workers = Workers(2, 1, "127.0.0.1", port)
    return Follower(LocalStore(store), Machine(1), Path, events, ALL, workers=workers)


@pytest.fixture(autouse=True)
def nobody_has_helped() -> None:
    HELPED.clear()


def test_it_waits_helps_and_ends_when_all_is_there(tmp_path: Path) -> None:
    store, flags = tmp_path / "store", [tmp_path / "a", tmp_path / "b"]
    plan, events = plan_of("wait", *map(str, flags)), Events()
    helper = threading.Thread(target=lambda: follower(store, 1, events).follow(plan))
    leader = threading.Thread(target=lambda: make_runner(store).run(plan))
    helper.start()
    helper.join(0.7)
    assert helper.is_alive() and not HELPED, "a is number 0's alone"
    assert not LocalStore(store).receipt_keys(), "who helps writes nothing"
    leader.start()
    flags[0].touch()
    helper.join(30)  # number 0 waits in b until it is helped
    leader.join(30)
    assert not helper.is_alive() and not leader.is_alive()
    assert HELPED == [("b", 1, False)], "once: number 0 did not begin again"
    assert len(LocalStore(store).objects.digests()) == 2


def test_a_mistake_of_what_is_shared_is_told(tmp_path: Path) -> None:
    plan = plan_of("user")
    make_runner(tmp_path / "store").run(dataclasses.replace(plan, targets=("train/a",)))
    with pytest.raises(DataError, match="rows are missing"):
        follower(tmp_path / "store", 1, Events()).follow(plan)
    assert HELPED == [("b", 1, False)]

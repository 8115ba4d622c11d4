"""What is run together, what waits, what is not run at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support.virtual_time import now, run

from stillhouse.edge.cascade.batches import Batches
from stillhouse.edge.status import Code, RpcError

RUN_S = 1.0


class Model:
    """Answers text by text, a second a batch; `poison` breaks its batch."""

    def __init__(self, **how: Any) -> None:
        self.ran: list[list[str]] = []
        bounds = {"at_once": 1, "most": 4, "waiting": 8, **how}
        self.batches: Batches[str, str] = Batches(self._run, ThreadPoolExecutor(1), submit=self._submit, clock=now, **bounds)

    def _run(self, works: Sequence[str]) -> list[str | Exception]:
        self.ran.append(list(works))
        if "poison" in works:
            raise RuntimeError("poison")
        return [RpcError(Code.INVALID_ARGUMENT, "mine") if each == "wrong" else each.upper() for each in works]

    async def _submit(self, what: Callable[[], Any]) -> Any:
        await asyncio.sleep(RUN_S)
        return what()

    def ask(self, word: str, rows: int = 1, left_s: float | None = None) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(self.batches.ask(word, rows, left_s))


def test_what_finds_a_thread_idle_is_run_at_once_and_what_waits_together() -> None:
    async def main() -> None:
        model = Model()
        tasks = [model.ask(each) for each in "abcdefg"]
        ran = await asyncio.gather(*tasks)
        assert model.ran == [["a"], ["b", "c", "d", "e"], ["f", "g"]]
        assert [each.result for each in ran] == list("ABCDEFG")
        assert [(each.waited_s, each.ran_s, each.batch) for each in ran] == [
            (0, RUN_S, 1), *[(RUN_S, RUN_S, 4)] * 4, *[(2 * RUN_S, RUN_S, 2)] * 2,
        ]  # fmt: skip
        await model.batches.close()

    run(main())


def test_rows_count_and_no_request_is_cut() -> None:
    async def main() -> None:
        model = Model(waiting=16)
        await asyncio.gather(model.ask("a"), model.ask("b", 3), model.ask("c", 2), model.ask("d", 1), model.ask("e", 6))
        assert model.ran == [["a"], ["b"], ["c", "d"], ["e"]]
        await model.batches.close()

    run(main())


def test_what_nobody_waits_for_is_not_run() -> None:
    async def main() -> None:
        model = Model()
        first, given_up, late, last = model.ask("a"), model.ask("b"), model.ask("c", left_s=0.5), model.ask("d")
        await asyncio.sleep(0.1)
        given_up.cancel()
        with pytest.raises(RpcError) as caught:
            await late
        assert caught.value.code == Code.DEADLINE_EXCEEDED and now() == 1000.5
        await asyncio.gather(first, last)
        assert model.ran == [["a"], ["d"]]
        assert model.batches.dropped == 2 and model.batches.waiting == 0
        await model.batches.close()

    run(main())


def test_too_much_is_refused_at_once_but_not_for_those_who_have_left() -> None:
    async def main() -> None:
        model = Model(waiting=3)
        tasks = [model.ask(each) for each in "abcd"]
        await asyncio.sleep(0)
        with pytest.raises(RpcError) as caught:
            await model.batches.ask("e", 1, None)
        assert caught.value.code == Code.RESOURCE_EXHAUSTED and now() == 1000
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert (await model.batches.ask("f", 1, None)).result == "F"
        assert model.ran == [["a"], ["c", "d", "f"]]
        await model.batches.close()

    run(main())


def test_one_poisonous_request_fails_alone() -> None:
    async def main() -> None:
        model = Model()
        found = await asyncio.gather(*[model.ask(each) for each in ("a", "b", "poison", "wrong")], return_exceptions=True)
        assert [each if isinstance(each, Exception) else each.result for each in found][:2] == ["A", "B"]
        assert isinstance(found[2], RuntimeError)
        assert isinstance(found[3], RpcError) and found[3].code == Code.INVALID_ARGUMENT
        assert (await model.ask("z")).result == "Z", "and the thread goes on"
        await model.batches.close()

    run(main())


def test_at_the_end_what_runs_ends_and_what_waits_is_told() -> None:
    async def main() -> None:
        model = Model()
        first, second = model.ask("a"), model.ask("b")
        await asyncio.sleep(0.1)
        await model.batches.close()
        assert (await first).result == "A"
        with pytest.raises(RpcError) as caught:
            await second
        assert caught.value.code == Code.UNAVAILABLE

    run(main())

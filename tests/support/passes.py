"""Passes that take a millisecond, and plans made of them: what the runner does with them is what is tested."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillhouse.clients.store.local import LocalStore
from stillhouse.clients.store.receipts import Receipt
from stillhouse.errors import DataError, Problem
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig, Progress
from stillhouse.passes.runner import Machine, Runner
from stillhouse.planning.manifest import PassEntry, Stage
from stillhouse.planning.plan import Environment, Plan, Step, StepDraft, seal

__all__ = ["PASSES", "Events", "chain", "draft", "make_plan", "make_runner"]


class WriteConfig(PassConfig):
    """`text` comes out, `once` is said; `trouble` names what goes wrong, `flag` a file that makes it go right (or go on)."""

    text: str = ""
    parts: int = 2
    once: str = ""
    trouble: str = ""
    flag: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class WriteFacts:
    """How long the text is, and how many parts an earlier attempt had left."""

    length: int
    resumed: int
    seed: int
    figures: list[float] = field(default_factory=list)


class Write(Pass[WriteConfig, WriteFacts]):
    """Writes its text behind those of its inputs, part by part; parts in the scratch survive an interruption."""

    name = "write"
    version = 1
    kind = "dataset"
    config_type = WriteConfig

    def run(self, config: WriteConfig, inputs: Mapping[str, Artifact], ctx: Context) -> WriteFacts:
        before = "".join((artifact.path / "text").read_text() for _, artifact in sorted(inputs.items()))
        if ctx.source is not None:
            before += ctx.source.read_text()
        if config.once:
            ctx.note_once(config.once)
        found = 0
        for part in range(config.parts):
            path = ctx.scratch / f"part-{part}"
            if path.exists():
                found += 1
                continue
            aside = ctx.scratch / f"aside-{part}"
            with aside.open("w") as stream:
                stream.write(f"{config.text}{part};"[:1])
                stream.flush()
                os.fsync(stream.fileno())
                stream.write(f"{config.text}{part};"[1:])
            aside.replace(path)
            ctx.progress.update(part + 1, config.parts, "parts")
            if part == 0:
                self._trouble(config, ctx)
        text = before + "".join((ctx.scratch / f"part-{part}").read_text() for part in range(config.parts))
        (ctx.out / "text").write_text(text)
        (ctx.out / "nested").mkdir()
        (ctx.out / "nested" / "length").write_text(str(len(text)))
        if config.trouble == "nan":
            return WriteFacts(len(text), found, ctx.seed, [float("nan")])
        return WriteFacts(len(text), found, ctx.seed, [0.1, 1e-300])

    @staticmethod
    def _trouble(config: WriteConfig, ctx: Context) -> None:
        if not config.trouble or (config.flag and Path(config.flag).exists()):
            return
        (ctx.out / "half").write_text("half of it")
        match config.trouble:
            case "interrupt":
                raise KeyboardInterrupt
            case "user":
                raise DataError("rows are missing", field="spec.distill.data", fix="give more rows")
            case "relative":
                raise DataError("no rows", field="data.uri", others=(Problem("no labels", field="data.columns.label"),))
            case "purpose":
                raise DataError("not for this", field="data.uri", found=f"{ctx.field}, copied" if ctx.copied else ctx.field)
            case "bug":
                raise ZeroDivisionError("a bug")
            case "rights":
                raise PermissionError(13, "Permission denied", "/somewhere/of/the/user.parquet")
            case "full":
                raise RuntimeError("write failed: No space left on device (os error 28)")
            case "blamed":
                try:
                    raise RuntimeError("write failed: No space left on device (os error 28)")
                except RuntimeError as error:
                    raise DataError("the model cannot be quantized", field="source.uri") from error
            case "manifest":
                (ctx.out / "manifest.json").write_text("{}")
            case "link":
                (ctx.out / "link").symlink_to("/etc/hostname")
            case "wait":
                Path(config.flag + ".started").touch()
                while not Path(config.flag).exists():
                    time.sleep(0.01)


class NoDataclass(Pass[WriteConfig, Any]):
    """Gives back something that is no dataclass."""

    name = "no-dataclass"
    version = 1
    kind = "dataset"
    config_type = WriteConfig

    def run(self, config: WriteConfig, inputs: Mapping[str, Artifact], ctx: Context) -> Any:
        (ctx.out / "text").write_text("x")
        return {"rows": 1}


class Choosy(Write):
    """Foresees that a text with "bad" in it will not do."""

    name = "choosy"

    def foresee(self, config: WriteConfig, inputs: Mapping[str, Artifact]) -> None:
        for role, artifact in inputs.items():
            if "bad" in (artifact.path / "text").read_text():
                raise DataError("this will not do", field="source.uri", found=role)


_HERE = "tests.support.passes"
PASSES: dict[str, PassEntry] = {
    entry.name: entry
    for entry in (
        PassEntry("write", 1, f"{_HERE}:Write", "dataset", needs=("json",)),
        PassEntry("measure", 1, f"{_HERE}:Write", "dataset", measures=True),
        PassEntry("no-dataclass", 1, f"{_HERE}:NoDataclass", "dataset"),
        PassEntry("choosy", 1, f"{_HERE}:Choosy", "dataset", foresees=True),
        PassEntry("absent", 1, f"{_HERE}:Write", "dataset", needs=("a_package_that_nobody_has",)),
    )
}


def draft(
    step_id: str,
    text: str = "",
    parents: Sequence[str] = (),
    *,
    pass_name: str = "write",
    uri: str = "",
    stage: Stage = "train",
    **config: Any,
) -> StepDraft:
    """Return a step that writes `text` behind the texts of its parents."""
    values = {"text": text or step_id, **config}
    return StepDraft(step_id, stage, pass_name, values, {f"in-{n}": parent for n, parent in enumerate(parents)}, uri)


def make_plan(*drafts: StepDraft, targets: Sequence[str] = (), env: Environment | None = None) -> Plan:
    """Return a plan of these steps; its target is the last one unless targets are given."""
    steps = seal(drafts, env or Environment({}), PASSES)
    return Plan("tiny", steps, tuple(targets) or (drafts[-1].id,), "request")


def chain(*, trouble: str = "", flag: str = "", at: str = "b", **config: Any) -> Plan:
    """Return a → b → c and a → d, with c and d wanted; step `at` has the trouble."""
    trouble_of = {at: {"trouble": trouble, "flag": flag}}
    return make_plan(
        draft("train/a", "a", **trouble_of.get("a", {}), **config),
        draft("train/b", "b", ["train/a"], **trouble_of.get("b", {}), **config),
        draft("train/c", "c", ["train/b"], **trouble_of.get("c", {}), **config),
        draft("train/d", "d", ["train/a"], **trouble_of.get("d", {}), **config),
        targets=["train/c", "train/d"],
    )


class Heard:
    """A progress that remembers (message, done, total) of every update, and every note."""

    def __init__(self, updates: list[tuple[str, float, float | None]], said: list[str]) -> None:
        self.updates = updates
        self.said = said

    def update(self, done: float, total: float | None = None, unit: str = "", message: str = "") -> None:
        self.updates.append((message, done, total))

    def note(self, message: str) -> None:
        self.said.append(message)


class Events:
    """A listener that remembers in order what it was told; `updates` and `said` are of steps and of what lies beside them."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []
        self.updates: list[tuple[str, float, float | None]] = []
        self.said: list[str] = []

    def started(self, step: Step, position: int, total: int) -> Progress:
        self.seen.append(("started", step.id, f"{position}/{total}"))
        return Heard(self.updates, self.said)

    def finished(self, step: Step, receipt: Receipt, *, cached: bool) -> None:
        assert receipt.key == step.key
        self.seen.append(("cached" if cached else "finished", step.id))

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[Progress]:
        yield Heard(self.updates, self.said)

    def note(self, message: str) -> None:
        self.seen.append(("note", message))

    @property
    def ran(self) -> list[str]:
        """Return the ids of the steps that started, in order."""
        return [event[1] for event in self.seen if event[0] == "started"]

    @property
    def notes(self) -> list[str]:
        """Return what was noted."""
        return [event[1] for event in self.seen if event[0] == "note"]


def make_runner(root: Path, events: Events | None = None, source: Path | None = None) -> Runner:
    """Return a runner of the tiny passes over the store at `root`."""
    machine = Machine(threads=1, toolchain={"json": "1.0"}, hardware={"cpu": "test"})
    return Runner(LocalStore(root), machine, lambda uri: source or Path(uri), events or Events(), PASSES)

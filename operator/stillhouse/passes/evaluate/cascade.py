"""The cascade of a revision: a confidence that is fitted on what serves, a threshold that is solved, and what both are worth."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stillhouse.errors import DataError
from stillhouse.inference.confidence import Calibration, log_odds
from stillhouse.inference.drift import Reference
from stillhouse.inference.engine import Engine
from stillhouse.inference.outliers import OutlierRule
from stillhouse.passes.base import Artifact, Context, Pass, PassConfig
from stillhouse.passes.evaluate.calibration import fit_isotonic, fit_outlier, fit_platt, fit_temperature
from stillhouse.passes.evaluate.chain import pareto_path
from stillhouse.passes.evaluate.curve import Curve, Rows, trace
from stillhouse.passes.evaluate.curve import Path as Thresholds
from stillhouse.passes.evaluate.disjoint import shown
from stillhouse.passes.evaluate.drawing import svg, text_chart
from stillhouse.passes.evaluate.middle import middle_of, open_middle, together_with
from stillhouse.passes.evaluate.reliability import Reliability, reliability
from stillhouse.passes.evaluate.splits import Catalogue, JudgedBy, Split, read_split
from stillhouse.passes.evaluate.threshold import Aim, Solved, Verified, solve, verify
from stillhouse.passes.sources.leaks import leaks, refuse_found

__all__ = ["BuildCascade", "CascadeConfig", "CascadeFacts"]

CASCADE_FILE = "cascade.json"
VERSION = 1
_FIELD = "spec.edge.cascade"
_OTHERS = {
    "training": "spec.distill.data",
    "unlabelled": "spec.distill.unlabelled",
    "tuning": "spec.source.fineTune.data",
    "gate": "spec.gate.data",
}
Floats = npt.NDArray[np.float64]


class CascadeConfig(PassConfig):
    """What planning asks for. Shares are numbers from 0 to 1; `keep` is None where unusual inputs are not told apart.

    `middle` names the DistilledModel between, `middleCost` is what its answer costs.
    """

    aim: Literal["targetAgreement", "escalationBudget"]
    value: float
    method: Literal["auto", "temperature", "isotonic", "platt"]
    judgedBy: JudgedBy  # noqa: N815 - JSON has the file's names
    neighbors: int
    keep: float | None
    cost: float
    middle: str = ""
    middleCost: float | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class CascadeFacts:
    """What was solved: `threshold` None is an infinite one, so that everything escalates. Shares on the threshold split."""

    threshold: float | None
    reachable: bool
    escalation: float
    agreement: float
    agreement_low: float
    rows: int
    method: str
    verdict: str
    ece: float
    ece_floor: float


class BuildCascade(Pass[CascadeConfig, CascadeFacts]):
    """Fits on the calibration split, solves on the threshold split, checks on the test split.

    `threshold` and `larger-threshold` are needed: rows, and what the larger model says of them. `calibration` and `test` come
    with theirs, or not. `fp32` is the model before quantization: how true its confidence was. `middle` is the revision of a
    model between the two: both thresholds are then solved together, along a path that the calibration split fixes.
    """

    name = "cascade"
    version = 2
    kind = "cascade"
    config_type = CascadeConfig

    def run(self, config: CascadeConfig, inputs: Mapping[str, Artifact], ctx: Context) -> CascadeFacts:
        """Write `cascade.json`, the curve as `curve.svg` and `curve.txt`, and for a search both indexes.

        Raises:
            DataError: the rows leak, lack columns, or labels are to judge and there are none.
        """
        self.foresee(config, inputs)
        model = inputs["model"]
        engine = Engine(model.path, ctx.threads, apart=True)  # as the gateway runs it
        catalogue = None
        if "index" in inputs:
            catalogue = Catalogue.of(inputs["index"], inputs["larger-index"], config.neighbors)

        def split(role: str, asked: Engine) -> Split:
            field = f"{_FIELD}.{'data' if role == 'threshold' else role}"
            return read_split(inputs[role], inputs[f"larger-{role}"], asked, catalogue, field, ctx.progress)

        def splits(asked: Engine) -> tuple[Split, Split, Split | None]:
            solving = split("threshold", asked)
            fitting = split("calibration", asked) if "calibration" in inputs else None
            if fitting is None:
                fitting, solving = _halves(solving)
            return fitting, solving, split("test", asked) if "test" in inputs else None

        stages = [splits(engine)]
        if "middle" in inputs:
            stages.append(splits(open_middle(inputs["middle"], engine, ctx.threads)))
        fits = [Fit.on(each[0], config) for each in stages]
        fit, (_, solving, testing) = fits[0], stages[0]

        def together(each: Sequence[Split], role: str) -> Rows:
            told = [fit.rows(rows, config, f"{_FIELD}.{role}") for fit, rows in zip(fits, each, strict=True)]
            return together_with(told, config.cost if config.middleCost is None else config.middleCost)

        rows = together([each[1] for each in stages], "data")
        path = trace(rows) if len(stages) == 1 else pareto_path(together([each[0] for each in stages], "calibration"))
        solved = solve(rows, Aim(config.aim, config.value), path)
        ctx.progress.note(solved.describe())
        tested = [each[2] for each in stages if each[2] is not None]
        verified = verify(together(tested, "test"), solved) if testing is not None else None
        if verified is not None:
            few = " (too few test rows to tell)" if verified.verdict == "not resolved" else ""
            ctx.progress.note(f"on test: {verified.verdict}{few}, {verified.point.agreement.estimate:.2%} agree")
        true = {"served": reliability(fit.confidence(solving), solving.agrees(config.judgedBy, f"{_FIELD}.data"))}
        if len(stages) > 1:
            true["middle"] = reliability(fits[1].confidence(stages[1][1]), stages[1][1].agrees(config.judgedBy, f"{_FIELD}.data"))
        if "fp32" in inputs:
            del engine  # one model at a time
            before = split("threshold", Engine(inputs["fp32"].path, ctx.threads, apart=True))
            before = before if "calibration" in inputs else _halves(before)[1]
            hit = before.agrees(config.judgedBy, f"{_FIELD}.data")
            true["fp32"] = reliability(fit.confidence(before), hit)
            true["fp32Raw"] = reliability(Calibration("identity").of_logits(before.values), hit)
        if catalogue is None:
            hit = solving.agrees(config.judgedBy, f"{_FIELD}.data")
            true["servedRaw"] = reliability(Calibration("identity").of_logits(solving.values), hit)
        between = None
        if "middle" in inputs:
            between = middle_of(config.middle, inputs["middle"], fits[1].calibration, solved)
        written = _write(ctx.out, model, fit, catalogue, rows, path, solved, verified, true, between)
        threshold = solved.point.thresholds[0]
        return CascadeFacts(
            threshold=threshold if math.isfinite(threshold) else None,
            reachable=solved.reachable,
            escalation=solved.point.escalation.estimate,
            agreement=solved.point.agreement.estimate,
            agreement_low=solved.point.agreement.low,
            rows=rows.n,
            method=written["calibration"]["kind"],
            verdict=verified.verdict if verified else "",
            ece=true["served"].ece_width.estimate,
            ece_floor=true["served"].floor_width,
        )

    def foresee(self, config: CascadeConfig, inputs: Mapping[str, Artifact]) -> None:
        """Refuse rows that leak.

        Raises:
            DataError: rows of the threshold, calibration or test split are in another split, the training or the gate's data.
        """
        seen = {field: shown(inputs[role]) for role, field in _OTHERS.items() if role in inputs}
        for role in ("calibration", "threshold", "test"):
            if role not in inputs:
                continue
            field = f"{_FIELD}.{'data' if role == 'threshold' else role}"
            mine = shown(inputs[role])
            refuse_found(
                {
                    other: found
                    for other, columns in seen.items()
                    for texts in columns.values()
                    for held_out in mine.values()
                    if (found := leaks(texts, held_out)).rows
                },
                field,
            )
            seen[field] = mine


@dataclass(frozen=True, slots=True)
class Fit:
    """What was fitted on the calibration split."""

    calibration: Calibration
    outliers: OutlierRule | None

    @classmethod
    def on(cls, split: Split, config: CascadeConfig) -> Fit:
        """Fit.

        Raises:
            DataError: no row has a signal that is a number, or labels are to judge and there are none.
        """
        field = f"{_FIELD}.calibration"
        hit = split.agrees(config.judgedBy, field)
        method = config.method
        if split.signal is not None:
            k = config.neighbors
            fitted = (
                fit_isotonic(split.signal, hit, name="peak", neighbours=k)
                if method == "isotonic"
                else fit_platt(split.signal, hit, name="peak", neighbours=k)
            )
        elif method == "temperature" or (method == "auto" and config.judgedBy == "answer"):
            fitted = fit_temperature(split.values, split.large)
        else:  # labels: a temperature is fitted to answers, not to whether they are right
            odds = log_odds(split.values)
            fitted = fit_isotonic(odds, hit) if method == "isotonic" else fit_platt(odds, hit)
        rule = None
        if config.keep is not None:
            if split.scores is None:
                raise DataError("outliers are told apart in a search only", field=f"{_FIELD}.outliers", fix="remove outliers")
            rule = fit_outlier("nearest", split.scores, config.keep)
        return cls(fitted, rule)

    def confidence(self, split: Split) -> Floats:
        """Return P(agrees) of every row, float64 [n]; NaN where the small model does not answer."""
        if split.signal is None:
            return self.calibration.of_logits(split.values)
        confidence = self.calibration.of_signal(split.signal)
        if self.outliers is None or split.scores is None:
            return confidence
        return np.where(self.outliers.outside(split.scores), np.nan, confidence)

    def rows(self, split: Split, config: CascadeConfig, field: str) -> Rows:
        """Return the split as thresholds are solved on it."""
        right = None if split.right is None else (split.right[:, 0], split.right[:, 1])
        agrees = split.agrees(config.judgedBy, field)
        return Rows.of_two(self.confidence(split), agrees, costs=(1.0, config.cost), right=right)


def _halves(split: Split) -> tuple[Split, Split]:
    """Return every second row, to fit on, and the others, to solve on: whatever order the rows are in, both have all of it."""
    every = np.arange(split.n, dtype=np.int64)
    if split.n < 2:
        raise DataError("one row cannot be both fitted and solved on", field=f"{_FIELD}.data", found="1 row")
    return split.part(every[::2]), split.part(every[1::2])


def _write(
    out: Path,
    model: Artifact,
    fit: Fit,
    catalogue: Catalogue | None,
    rows: Rows,
    path: Thresholds,
    solved: Solved,
    verified: Verified | None,
    true: Mapping[str, Reliability],
    between: Mapping[str, Any] | None,
) -> dict[str, Any]:
    receipt = json.loads((model.path / "receipt.json").read_bytes())
    signature = json.loads((model.path / "signature.json").read_bytes())
    threshold = solved.point.thresholds[0]
    curve, point = Curve.of(rows, path).to_json(), solved.point.to_json()
    written: dict[str, Any] = {
        "version": VERSION,
        "task": signature["task"],
        "variant": receipt["precision"],
        "digest": model.digest,
        "calibration": fit.calibration.to_json(),
        "threshold": threshold if math.isfinite(threshold) else None,
        "outliers": fit.outliers.to_json() if fit.outliers else None,
        "retrieval": {"k": catalogue.neighbours} if catalogue else None,
        "stages": rows.stages,
        "solved": solved.to_json(),
        "verified": verified.to_json() if verified else None,
        "curve": curve,
        "reliability": {name: each.to_json() for name, each in true.items()},
        "confidences": Reference.of(rows.confidence[:, 0].tolist()).to_json(),
    }
    if between is not None:
        written["middle"] = between
    (out / CASCADE_FILE).write_text(json.dumps(written, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    aim: dict[str, float] = {solved.aim.kind: solved.aim.value}
    shutil.copyfile(model.path / "signature.json", out / "signature.json")  # a gateway before servers has no model of its own
    (out / "curve.svg").write_text(svg(curve, point, aim), encoding="utf-8")
    (out / "curve.txt").write_text(text_chart(curve, point, aim) + "\n", encoding="utf-8")
    if catalogue is not None:
        np.save(out / "edge.npy", catalogue.small)
        np.save(out / "larger.npy", catalogue.large)
        (out / "names.json").write_text(json.dumps(catalogue.names) + "\n", encoding="utf-8")
    return written

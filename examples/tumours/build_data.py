#!/usr/bin/env python3
"""Build the rows of `tumours`: scikit-learn's Wisconsin breast cancer table, 569 rows of 30 measured numbers.

Every file has the 30 columns as they were measured, and `label` (malignant, benign).

Example:
    python examples/tumours/build_data.py
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _shared.commands import build_data
from _shared.dataset import Columns, is_current, write
from _shared.packages import installed_versions, python_version
from _shared.progress import Progress
from _shared.splits import deal, in_hash_order

VERSION = 1
SEED = 20261127
SHARES = {"train": 0.5, "validation": 0.15, "gate": 0.35}


def tables_of(table: Any) -> dict[str, Columns]:
    """Split what `load_breast_cancer` gives."""
    import numpy as np

    values = np.asarray(table.data, dtype=np.float32)
    distinct = {row.tobytes(): index for index, row in reversed(list(enumerate(values)))}  # the same row once
    order = in_hash_order(distinct.values(), lambda index: hashlib.sha256(values[index].tobytes()).hexdigest(), SEED)
    return {
        name: {
            **{str(column): values[part, place] for place, column in enumerate(table.feature_names)},
            "label": [str(table.target_names[table.target[index]]) for index in part],
        }
        for name, part in deal(order, SHARES).items()
    }


def build(folder: Path, progress: Progress) -> dict[str, Any] | None:
    """Write the data set; `None` where it is there already."""
    from sklearn.datasets import load_breast_cancer

    version = installed_versions().get("scikit-learn")
    inputs = {"builder": VERSION, "seed": SEED, "python": python_version(), "packages": {"scikit-learn": version}}
    if is_current(folder, inputs):
        return None
    progress.step("cutting scikit-learn's table into splits")
    return write(folder, tables_of(load_breast_cancer()), inputs, {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    build_data(__doc__, Path(__file__).resolve().parent, build, arguments)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Build the images of `digits`: scikit-learn's 1,797 handwritten digits of 8×8 pixels. A smoke test, no evidence.

Every file has the columns `image` (64 float32 in [0, 1], row by row) and `label` (a string); `unlabelled` has no `label`.

Example:
    python examples/digits/build_data.py
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
SEED = 20261122
PIXELS = 64
SHARES = {"train": 0.4, "unlabelled": 0.15, "validation": 0.1, "gate": 0.15, "threshold": 0.05, "test": 0.15}


def tables_of(images: Any, labels: Any) -> dict[str, Columns]:
    """Split the digits.

    Args:
        images: float array [n, 64], grey values 0 to 16.
        labels: integer array [n].
    """
    import numpy as np
    import pyarrow as pa

    pixels = np.asarray(images, dtype=np.float32) / np.float32(16)
    distinct = {row.tobytes(): index for index, row in reversed(list(enumerate(pixels)))}  # the same image once
    order = in_hash_order(distinct.values(), lambda index: hashlib.sha256(pixels[index].tobytes()).hexdigest(), SEED)
    tables: dict[str, Columns] = {}
    for name, part in deal(order, SHARES).items():
        column = pa.FixedSizeListArray.from_arrays(pa.array(pixels[part].ravel(), pa.float32()), PIXELS)
        tables[name] = {"image": column}
        if name != "unlabelled":
            tables[name] = {"image": column, "label": [str(labels[index]) for index in part]}
    return tables


def build(folder: Path, progress: Progress) -> dict[str, Any] | None:
    """Write the data set; `None` where it is there already."""
    from sklearn.datasets import load_digits

    version = installed_versions().get("scikit-learn")
    inputs = {"builder": VERSION, "seed": SEED, "python": python_version(), "packages": {"scikit-learn": version}}
    if is_current(folder, inputs):
        return None
    progress.step("cutting scikit-learn's digits into splits")
    images, labels = load_digits(return_X_y=True)
    return write(folder, tables_of(images, labels), inputs, {"image": {"height": 8, "width": 8, "channels": 1}})


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    build_data(__doc__, Path(__file__).resolve().parent, build, arguments)


if __name__ == "__main__":
    main()

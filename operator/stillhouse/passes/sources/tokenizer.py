"""The tokenizer of a model: only `tokenizer.json`, which is data; nothing of transformers is needed to read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse.digests import file_digest
from stillhouse.errors import SourceError, UnsafeSource
from stillhouse.inference.text import TOKENIZER_FILE
from stillhouse.passes.sources.folder import SourceFolder, read_json

__all__ = ["TokenizerInfo", "inspect_tokenizer", "refuse_code", "vocabulary_rows"]

_SLOW = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "source.spm")
_TEXTS = ("", "a", "The quick brown fox: 17 hops, naïve or not! \n" * 200)
_PADS = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")


@dataclass(frozen=True, slots=True)
class TokenizerInfo:
    """What a tokenizer.json says: `rows` is its highest token id + 1, `pad_id` the id of the padding token."""

    digest: str
    rows: int
    pad_id: int


def inspect_tokenizer(folder: SourceFolder, config: dict[str, Any], embedding_rows: int | None) -> TokenizerInfo:
    """Read the folder's tokenizer and hold it against the model.

    `config` is the model's config.json ({}: none), `embedding_rows` how many rows its word embeddings have (None: not known).

    Raises:
        UnsafeSource: tokenizer_config.json names code to run.
        SourceError: there is only a slow tokenizer, the file is damaged, or it gives ids that the embeddings lack.
    """
    if not folder.has(TOKENIZER_FILE):
        slow = [name for name in _SLOW if folder.has(name)]
        if slow:
            raise SourceError(
                "there is only a slow tokenizer",
                field="source.uri",
                found=", ".join(slow),
                allowed=TOKENIZER_FILE,
                fix="convert it once where the model came from: "
                "AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)",
            )
        folder.path(TOKENIZER_FILE)
    if folder.has("tokenizer_config.json"):
        refuse_code(read_json(folder.path("tokenizer_config.json"), "tokenizer_config.json"), "tokenizer_config.json")
    path = folder.path(TOKENIZER_FILE)
    read_json(path, TOKENIZER_FILE)
    from tokenizers import Tokenizer  # type: ignore[import-untyped, unused-ignore]

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises bare Exception
        raise SourceError(
            "tokenizer.json cannot be read",
            field="source.uri",
            found=str(error)[:200],
            allowed="a tokenizer of the tokenizers library",
            fix="fetch tokenizer.json again from where the model was published",
        ) from error
    vocabulary: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    rows = max(vocabulary.values(), default=-1) + 1
    if rows == 0:
        raise SourceError("the tokenizer has no tokens", field="source.uri", found=TOKENIZER_FILE, allowed="a vocabulary")
    if embedding_rows is not None and rows > embedding_rows:
        raise SourceError(
            "the tokenizer does not fit the model: it gives ids for which there is no embedding",
            field="source.uri",
            found=f"token ids up to {rows - 1}, {embedding_rows} rows of embeddings",
            allowed=f"token ids below {embedding_rows}",
            fix="take tokenizer.json and the weights from the same model and revision",
        )
    pad_id = _pad_id(config, vocabulary, tokenizer.padding)
    _try(tokenizer, rows if embedding_rows is None else embedding_rows)
    if embedding_rows is not None and pad_id >= embedding_rows:
        raise SourceError(
            "the padding's id is one for which there is no embedding",
            field="source.uri: config.json: pad_token_id" if config.get("pad_token_id") == pad_id else "source.uri",
            found=f"{pad_id}, {embedding_rows} rows of embeddings",
            allowed=f"a token id below {embedding_rows}",
            fix="take tokenizer.json, config.json and the weights from the same model and revision",
        )
    return TokenizerInfo(file_digest(path), rows, pad_id)


def vocabulary_rows(folder: Path) -> int:
    """Return the highest token id + 1 of an artifact's tokenizer, 0 where there is none (images, features)."""
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        return 0
    from tokenizers import Tokenizer

    return max(Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True).values(), default=-1) + 1


def refuse_code(data: dict[str, Any], name: str) -> None:
    """Refuse a JSON file that asks for Python code to be loaded from the model's own folder.

    Raises:
        UnsafeSource: it has `auto_map`, `custom_pipelines` or `trust_remote_code`.
    """
    for key in ("auto_map", "custom_pipelines", "trust_remote_code"):
        if data.get(key):
            raise UnsafeSource(
                "the model asks for its own Python code to be run",
                field=f"source.uri: {name}: {key}",
                found=str(data[key])[:200],
                allowed="architectures that transformers knows by itself",
                fix="use a model without custom code, or export it to ONNX where you trust it",
            )


def _try(tokenizer: Any, rows: int) -> None:
    """Encode texts: what stands around them has ids of its own in tokenizer.json, whatever its vocabulary says."""
    tokenizer.no_padding()  # every use sets its own, so the file's may be as absurd as it likes
    tokenizer.no_truncation()
    try:
        highest = max(max(tokenizer.encode(text).ids, default=-1) for text in _TEXTS)
    except Exception as error:  # the Rust library raises bare Exception
        raise SourceError(
            "the tokenizer cannot encode every text",
            field="source.uri",
            found=f"tokenizer.json: {error}"[:200],
            allowed="a tokenizer that has tokens, or an unknown token, for any text",
            fix="fetch tokenizer.json again from where the model was published",
        ) from error
    if highest >= rows:
        raise SourceError(
            "the tokenizer does not fit the model: what it puts around a text has ids for which there is no embedding",
            field="source.uri",
            found=f"tokenizer.json: token id {highest}, {rows} rows of embeddings",
            allowed=f"token ids below {rows}",
            fix="mend post_processor in tokenizer.json, or take tokenizer.json and the weights from the same model and revision",
        )


def _pad_id(config: dict[str, Any], vocabulary: dict[str, int], padding: dict[str, Any] | None) -> int:
    given = config.get("pad_token_id")
    if isinstance(given, int) and given >= 0:
        return given
    for token in _PADS:
        if token in vocabulary:
            return vocabulary[token]
    return int(padding.get("pad_id", 0)) if padding else 0

"""Whether a tokenizer is the one of its text encoder: without its files the library makes one that knows no word."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from shoes.model.contents.header import Unreadable
from shoes.model.contents.parts import CLIP, TEXT_ENCODER, Kind

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
"""What a tokenizer is read from; the words are in the first, or in the next two."""


def folder_of(kind: Kind) -> str | None:
    """Where the tokenizer lies within a model; None: a model that reads no words."""
    return {"diffusion": "tokenizer", "clip": "", "vision": None}[kind]


def require_words(files: Collection[str]) -> None:
    """The files that hold the words are there.

    Raises:
        Unreadable: they are not.
    """
    if "tokenizer.json" not in files and not {"vocab.json", "merges.txt"} <= set(files):
        raise Unreadable("holds no words: it needs tokenizer.json, or vocab.json and merges.txt")


def require_tokenizer(kind: Kind, folder: Path) -> None:
    """The tokenizer can be read, and its tokens are those that the text encoder has vectors for.

    Raises:
        Unreadable: they are not.
    """
    tokenizer, vectors = _tokenizer(folder / (folder_of(kind) or "")), _vectors(kind, folder)
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= vectors:
        raise Unreadable(f"gives tokens up to number {highest:,}, and the text encoder has vectors for {vectors:,}")
    if 2 * len(tokenizer) < vectors:
        raise Unreadable(f"knows {len(tokenizer):,} of the {vectors:,} tokens of the text encoder")


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    from shoes.model.load import quiet_libraries

    quiet_libraries()
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library's own reader raises no narrower class
        reason = (str(error).strip().splitlines() or [""])[0]
        raise Unreadable(f"can't be read: {type(error).__name__}: {reason[:200]}") from error


def _vectors(kind: Kind, folder: Path) -> int:
    import transformers

    part = TEXT_ENCODER if kind == "diffusion" else CLIP
    config = getattr(transformers, part.network).config_class.from_pretrained(folder / part.name, local_files_only=True)
    return int(getattr(config, "text_config", config).vocab_size if kind == "clip" else config.vocab_size)

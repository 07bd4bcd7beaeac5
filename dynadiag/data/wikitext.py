"""WikiText-103 from its three text files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .dataset import Dataset
from .files import find
from .text import Tokens, byte_tokens

Tokenizer = Callable[[str], Sequence[int]]

_FOLDERS = (".", "wikitext-103-raw", "wikitext-103")


def wikitext103(
    root: str | Path | None = None,
    *,
    context: int = 1024,
    tokenizer: Tokenizer | None = None,
    vocabulary: int = 256,
) -> Dataset:
    """Return WikiText-103 in its own three parts, read as bytes or by a tokenizer.

    Args:
        root: folder with wiki.train.raw, wiki.valid.raw and wiki.test.raw (or .tokens), or the
            one above it.
        context: tokens of a window.
        tokenizer: what turns text into token numbers, such as `tiktoken`'s `encode_ordinary`;
            None takes the bytes of the file.
        vocabulary: how many tokens it knows.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the tokenizer gave a number outside the vocabulary.
    """
    train, validation, test = (
        Tokens(_tokens(_find(root, part), tokenizer, vocabulary), context)
        for part in ("train", "valid", "test")
    )
    source = "WikiText-103 as bytes" if tokenizer is None else "WikiText-103 as tokens"
    return Dataset("wikitext103", train, validation, test, vocabulary, source)


def _find(root: str | Path | None, part: str) -> Path:
    return find(root, _FOLDERS, (f"wiki.{part}.raw", f"wiki.{part}.tokens"))


def _tokens(path: Path, tokenizer: Tokenizer | None, vocabulary: int) -> Tensor:
    if tokenizer is None:
        return byte_tokens(path.read_bytes())
    with path.open(encoding="utf-8") as lines:
        tokens = torch.tensor([token for line in lines for token in tokenizer(line)])
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocabulary:
        raise ValueError(
            f"the tokenizer gave {tokens.max().item()}, but the vocabulary is {vocabulary}; "
            "pass the tokenizer's own vocabulary="
        )
    return tokens.int()

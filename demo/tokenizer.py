"""A CLIP tokenizer of a few hundred tokens, learnt from the catalogue's captions."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 48
_END_OF_WORD = "</w>"
_PRINTABLE = [chr(code) for code in range(ord("!"), ord("~") + 1)]

Pair = tuple[str, str]


def train_tokenizer(captions: Iterable[str], target: Path, *, max_merges: int = 600) -> CLIPTokenizer:
    """Learn byte pair merges until every word of the captions is one token, and save the tokenizer.

    Unknown words are spelt from smaller pieces, so any prompt can be encoded.
    """
    merges = learn_merges(_word_counts(captions), max_merges)
    tokens = [START, END, *_PRINTABLE, *(letter + _END_OF_WORD for letter in _PRINTABLE)]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=START, eos_token=END, pad_token=END, unk_token=END,
        model_max_length=MAX_TOKENS,
    )  # fmt: skip
    tokenizer.save_pretrained(target)
    return tokenizer


def _word_counts(captions: Iterable[str]) -> Counter[str]:
    """How often each word occurs, split as CLIP does: letters together, everything else apart."""
    counts: Counter[str] = Counter()
    for caption in captions:
        letters = "".join(char if char.isalpha() else f" {char} " for char in caption.lower())
        counts.update(word for word in letters.split() if word.isascii())
    return counts


def learn_merges(counts: Counter[str], max_merges: int) -> list[Pair]:
    """The byte pair merges of these words, most frequent pair first."""
    words = {word: [*word[:-1], word[-1] + _END_OF_WORD] for word in counts}
    merges: list[Pair] = []
    while len(merges) < max_merges:
        pairs = _pair_counts(words, counts)
        if not pairs:
            break
        # Ties are broken by the text, so that the same captions give the same tokenizer.
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {word: _merge(pieces, best) for word, pieces in words.items()}
    return merges


def _pair_counts(words: dict[str, list[str]], counts: Counter[str]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for word, pieces in words.items():
        for pair in pairwise(pieces):
            pairs[pair] += counts[word]
    return pairs


def _merge(pieces: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged

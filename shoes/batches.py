"""Splitting a sequence into batches."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive slices of `size` items, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]

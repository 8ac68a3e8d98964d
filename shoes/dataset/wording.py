"""Numbers in sentences for people."""

from collections.abc import Mapping


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 line`, `2,149 lines`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def tally(numbers: Mapping[str, int]) -> str:
    """`Pink (8), Purple (7)`: the largest first."""
    return ", ".join(f"{name} ({n:,})" for name, n in sorted(numbers.items(), key=lambda item: (-item[1], item[0])))

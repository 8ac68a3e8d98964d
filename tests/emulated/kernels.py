"""Which of ATen's operators run on MPS, by the table that PyTorch itself is generated from."""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

COMPOSITE = frozenset(
    {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
)
"""Kernels that are made of other operators, on whatever device."""


@dataclass
class Entry:
    """One operator of native_functions.yaml."""

    keys: set[str] = field(default_factory=set)
    """Dispatch keys with a kernel of their own; empty: the operator is made of others."""
    delegate: str = ""
    """The structured operator that does the work."""
    generated: tuple[str, ...] = ()
    """Variants that are generated around it."""


def has_kernel(operator: str) -> bool:
    """Whether an operator, `addmm_` or `add.Tensor`, can run on MPS; what the table does not know is taken to."""
    operators = table()
    entry = operators.get(operator)
    if entry is None:
        return True
    if entry.delegate:
        return _runs(operators[entry.delegate].keys)
    return _runs(entry.keys) or not entry.keys


def _runs(keys: set[str]) -> bool:
    return bool(keys & {"MPS", *COMPOSITE})


@cache
def table() -> dict[str, Entry]:
    """Every operator by its name. Reading 16,000 lines as YAML takes seconds; four kinds of line are all we want."""
    import torchgen

    source = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    entries: dict[str, Entry] = {}
    for block in re.split(r"^- func: ", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        entry = _entry(block)
        entries[block.partition("(")[0].strip()] = entry
        entries |= {name: entry for name in entry.generated if name not in entries}
    return entries


def _entry(block: str) -> Entry:
    dispatch = re.search(r"^  dispatch:\n((?:    .*\n?)+)", block, flags=re.MULTILINE)
    lines = dispatch[1].splitlines() if dispatch else []
    keys = {key.strip() for line in lines if ":" in line for key in line.partition(":")[0].split(",")}
    delegate = re.search(r"^  structured_delegate: (\S+)", block, flags=re.MULTILINE)
    generated = re.search(r"^  autogen: (.+)$", block, flags=re.MULTILINE)
    return Entry(
        keys=keys,
        delegate=delegate[1] if delegate else "",
        generated=tuple(name.strip() for name in generated[1].split(",")) if generated else (),
    )

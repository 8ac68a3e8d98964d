"""The mutations, as they are kept: what is replaced in which file."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
Kind = Literal["chosen", "drawn"]


@dataclass(frozen=True)
class Mutation:
    """A fault, by the text that it replaces."""

    name: str
    kind: Kind
    file: str
    """Path within the project."""
    before: str
    """What is there once."""
    after: str

    @property
    def lines(self) -> range:
        """Numbers of the lines that are replaced, 1 being the first; the file is as it was."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        start = text[: text.index(self.before)].count("\n") + 1
        return range(start, start + self.before.rstrip("\n").count("\n") + 1)

    def applied(self, text: str) -> str:
        """The file's text with the fault.

        Raises:
            LookupError: the text is not there, or more than once: the code has changed since.
        """
        if (count := text.count(self.before)) != 1:
            raise LookupError(f"{self.file}: the code of the mutation '{self.name}' is there {count} times")
        return text.replace(self.before, self.after)


def load(*kinds: Kind) -> list[Mutation]:
    """All mutations of these kinds, in their order."""
    found = []
    for kind in kinds:
        entries = tomllib.loads((_HERE / f"{kind}.toml").read_text(encoding="utf-8"))["mutation"]
        found += [Mutation(kind=kind, **entry) for entry in entries]
    return found


def keep_drawn(mutations: list[Mutation], comment: str) -> Path:
    """Write down what was drawn."""
    import tomli_w

    entries = [{name: value for name, value in asdict(one).items() if name != "kind"} for one in mutations]
    file = _HERE / "drawn.toml"
    file.write_text(f"# {comment}\n\n{tomli_w.dumps({'mutation': entries})}", encoding="utf-8")
    return file

"""What is drawn: prompts from the line, a file or a split's captions, and a seed for each picture."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoes import dataset
from shoes.errors import ConfigurationError, DataError, Problem
from shoes.generation.request import MAX_SEED, Request
from shoes.reports import Report

_EXAMPLE = '{"prompt": "a red canvas shoe", "seed": 7}'


class Picture(Report):
    """One picture to draw."""

    prompt: str
    seed: int


@dataclass(frozen=True)
class Prompt:
    """A prompt, with the seed of its first picture if it has one of its own."""

    text: str
    seed: int | None = None


def read_prompts(request: Request, dataset_dir: Path) -> list[Prompt]:
    """The prompts of a request, from wherever they come.

    Raises:
        ConfigurationError: the file can't be used; with every line that is wrong.
        DataError: there is no such split.
    """
    if request.prompts_file is not None:
        return read_file(request.prompts_file.expanduser())
    if request.captions is not None:
        return [Prompt(caption) for caption in split_captions(dataset_dir, request.captions, request.count)]
    return [Prompt(text) for text in request.prompts]


def plan_pictures(prompts: Sequence[Prompt], first_seed: int, images_per_prompt: int) -> tuple[Picture, ...]:
    """The pictures of each prompt, one prompt after the other.

    Picture number i of all, from 0, has the seed `first_seed` + i; those of a prompt with a seed of its own count up
    from that.
    """
    pictures = []
    for number, prompt in enumerate(prompts):
        start = first_seed + number * images_per_prompt if prompt.seed is None else prompt.seed
        pictures += [Picture(prompt=prompt.text, seed=start + repeat) for repeat in range(images_per_prompt)]
    return tuple(pictures)


def split_captions(dataset_dir: Path, split: str, count: int | None) -> list[str]:
    """Unique captions of a split in sorted order: all, or `count` of them spread evenly.

    Raises:
        DataError: the data set or the split is not there, or its captions can't be read.
    """
    from shoes.dataset.verification import missing_data_set
    from shoes.evaluation.grid import pick_rows

    if not dataset_dir.is_dir():
        raise DataError([missing_data_set(dataset_dir)])
    captions = [record.caption for record in dataset.load_split(dataset_dir / split, decode=False)]
    return [captions[index] for index in pick_rows(captions, len(captions) if count is None else count)]


def read_file(path: Path) -> list[Prompt]:
    """Prompts of a text file, one a line without blank lines and comments (#), or of .json and .jsonl.

    Raises:
        ConfigurationError: with every line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise ConfigurationError([Problem(f"--prompts {path}", str(reason), "name a text file of prompts")]) from error
    parsers = {".json": _json, ".jsonl": _json_lines}
    found = list(parsers.get(path.suffix.lower(), _lines)(text, path))
    problems = [item for item in found if isinstance(item, Problem)]
    if not found:
        problems.append(Problem(str(path), "holds no prompt", "write one a line"))
    if problems:
        raise ConfigurationError(problems)
    return [item for item in found if isinstance(item, Prompt)]


def _lines(text: str, path: Path) -> Iterator[Prompt | Problem]:
    del path
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            yield Prompt(line)


def _json_lines(text: str, path: Path) -> Iterator[Prompt | Problem]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield from _decode(line, f"{path}:{number}")


def _json(text: str, path: Path) -> Iterator[Prompt | Problem]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield Problem(str(path), f"is not JSON: {error}", f"write a list such as [{_EXAMPLE}]")
        return
    if not isinstance(entries, list):
        yield Problem(str(path), "is no list", f"write a list such as [{_EXAMPLE}]")
        return
    for number, entry in enumerate(entries, start=1):
        yield _entry(entry, f"{path}, entry {number}")


def _decode(line: str, where: str) -> Iterator[Prompt | Problem]:
    try:
        yield _entry(json.loads(line), where)
    except (ValueError, RecursionError) as error:
        yield Problem(where, f"is not JSON: {error}", f"write {_EXAMPLE}")


def _entry(entry: Any, where: str) -> Prompt | Problem:
    fields = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str) or not fields["prompt"].strip():
        return Problem(where, 'has no "prompt"', f"write {_EXAMPLE}")
    if unknown := sorted(fields.keys() - {"prompt", "seed"}):
        return Problem(where, f"has {', '.join(unknown)}, which is not known", f"write {_EXAMPLE}")
    seed = fields.get("seed")
    is_seed = isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= MAX_SEED
    if seed is not None and not is_seed:
        return Problem(where, f"has the seed {seed!r}", "a seed is a whole number from 0 up")
    return Prompt(fields["prompt"].strip(), seed)

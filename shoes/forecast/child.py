"""Start the probe, read its answers, and survive its death."""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from shoes.errors import TrainingError
from shoes.forecast.probe import JudgePlace, Request
from shoes.reports import DataReport, ModelsReport, Report
from shoes.spec import Recipe
from shoes.training.run import Decisions

MODULE = "shoes.forecast"
SECONDS_PER_MEASUREMENT = 8.0
"""How long a step is repeated, at least."""
Answer = TypeVar("Answer", bound=Report)


def ask(request: Request, answer: type[Answer]) -> Iterator[Answer]:
    """The probe's answers as they come.

    Raises:
        TrainingError: it ended with an error; the last lines that it wrote are in the message.
    """
    command = [sys.executable, "-m", MODULE]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as words,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=words, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request.model_dump_json())
            process.stdin.close()
            for line in process.stdout:
                yield answer.model_validate_json(line)
        except BaseException:
            process.kill()
            raise
        if code := process.wait():
            words.seek(0)
            raise TrainingError(_why(code, words.read()))


def _why(code: int, words: str) -> str:
    if code == -9:
        return "The measuring process was killed by the system: most likely there was not enough memory."
    said = words.strip().splitlines() or ["nothing was said"]
    kind, _, reason = said[-1].partition(": ")
    is_error = reason and kind.rpartition(".")[2].isidentifier()  # the last line of a traceback
    return f"The measuring process ended with code {code}: {reason if is_error else said[-1]}"


def _judges(models: ModelsReport) -> tuple[JudgePlace, ...]:
    there = ((models.clip, True), (models.second_clip, True), (models.dino, False))
    return tuple(JudgePlace(path=model.path, has_words=words) for model, words in there if model is not None)


@contextmanager
def prepared(
    recipe: Recipe, models: ModelsReport, data: DataReport, decisions: Decisions, *, cache: Path, tune: bool = False
) -> Iterator[Request]:
    """A request whose files are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="shoes-forecast-") as folder:
        yield Request(
            recipe=recipe,
            base=models.base,
            judges=_judges(models),
            data=data,
            decisions=dataclasses.asdict(decisions),
            cache=cache,
            folder=Path(folder),
            seconds=SECONDS_PER_MEASUREMENT,
            tune=tune,
        )

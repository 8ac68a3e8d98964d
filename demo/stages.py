"""Stages with an output folder each: named by what went in, whole or not there, made once."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoes import storage

log = logging.getLogger("demo")

Make = Callable[[Path, Path], None]
"""Fill the first folder; the second is where checkpoints survive a kill."""


@dataclass(frozen=True)
class Workshop:
    """Where everything is made."""

    folder: Path
    device: str

    def stage(self, name: str, inputs: list[Any], make: Make) -> Path:
        """The stage's output folder: found whole, or made now.

        Equal inputs give the same folder, so a change of the plan remakes only what depends on it.
        """
        target = self.folder / f"{name}-{storage.fingerprint(name, inputs)}"
        if storage.is_whole(target):
            log.info("%s: already there", target.name)
            return target
        log.info("%s: started", target.name)
        started = time.monotonic()
        checkpoints = self.folder / "checkpoints" / target.name
        with storage.new_folder(target) as folder:
            make(folder, checkpoints)
            _keep_journals(checkpoints, folder)
        shutil.rmtree(checkpoints, ignore_errors=True)
        log.info("%s: done in %.1f min", target.name, (time.monotonic() - started) / 60)
        return target


def _keep_journals(checkpoints: Path, folder: Path) -> None:
    for journal in checkpoints.glob("*.jsonl"):
        shutil.copyfile(journal, folder / journal.name)

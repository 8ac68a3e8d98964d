"""`shoes report`: the last night's page. The command itself stands above the flows, for Prefect sends its messages."""

import shutil
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shoes.cli.command import Outcome

if TYPE_CHECKING:
    from shoes.reports import NightReport


@dataclass(frozen=True)
class LastNight:
    """The newest night, its page, and what began after it."""

    night: "NightReport"
    page: Path
    since: str
    """A training that began later and has no verdict yet, in words; empty: there is none."""


def last_night(recipe: str | None) -> LastNight:
    """The night that finished last, of one recipe or of all, with a page that shows it.

    Raises:
        TrainingError: no night has finished.
        ConfigurationError: there is no such recipe.
    """
    from shoes import recipes
    from shoes.publishing import page
    from shoes.publishing.page import nights
    from shoes.settings import load_settings

    roots, name = [load_settings().runs], None
    if recipe is not None:
        loaded = recipes.load(recipe)
        name = loaded.name
        if loaded.train.logging_dir:
            roots = [Path(loaded.train.logging_dir).expanduser().absolute()]
    night = nights.newest(roots, name)
    later = [run for run in nights.unfinished(roots, name) if run.at > night.finished]
    return LastNight(night, page.write(night), later[0].sentence if later else "")


def copy_page(page: Path, out: Path) -> Path:
    """The page as a file of its own.

    Raises:
        ConfigurationError: there can be no such file.
    """
    from shoes.errors import ConfigurationError, Problem

    target = out / "index.html" if out.is_dir() else out
    try:
        shutil.copyfile(page, target)
    except OSError as error:
        raise ConfigurationError(
            [Problem("--out", f"{target} can't be written: {error}", "name another file")]
        ) from error
    return target.absolute()


def show(page: Path) -> bool:
    """Open the page in the browser; false where there is none."""
    return webbrowser.open(page.as_uri())


def outcome(found: LastNight, page: Path, *, opened: bool, notified: tuple[str, ...]) -> Outcome:
    """What the command says."""
    lines = [found.night.verdict, "", f"report  {page}"]
    lines += [f"sent    {name}" for name in notified]
    if found.since:
        lines += ["", f"Since then: {found.since}"]
    data = {
        **found.night.model_dump(mode="json"),
        "page": str(page),
        "opened": opened,
        "notified": list(notified),
        "since": found.since,
    }
    return Outcome("\n".join(lines), data)

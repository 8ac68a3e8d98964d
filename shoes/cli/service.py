"""`shoes service`: let `shoes up` start with the machine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from shoes.cli.command import JSON, Outcome, run

if TYPE_CHECKING:
    from shoes.service.definition import Definition
    from shoes.service.installation import Status
    from shoes.service.manager import Manager


@click.group()
def service() -> None:
    """Let `shoes up` start with the machine, so that the schedule survives a restart.

    A launchd agent on macOS, a systemd user unit on Linux. It runs with the settings that are in force when it is
    installed. No secret is written into it: passwords and webhooks are read from .env in the project's folder.
    """


@service.command(params=[JSON])
def install(as_json: bool) -> None:
    """Install the service and start it; installing again takes over settings that changed."""
    run(as_json, _install)


@service.command(params=[JSON])
def uninstall(as_json: bool) -> None:
    """Stop the service and remove it. Data, runs and the schedule stay."""
    run(as_json, _uninstall)


@service.command(params=[JSON])
def status(as_json: bool) -> None:
    """Say whether it is installed, runs, and is what would be installed now.

    Exit code 1 if not.
    """
    run(as_json, _status)


@dataclass(frozen=True)
class _Here:
    """This machine's service manager, and what it should run."""

    manager: "Manager"
    definition: "Definition"
    secrets: tuple[str, ...]
    """Names of secrets that the service will not have."""


def _here() -> _Here:
    from shoes.service.definition import define, left_out
    from shoes.service.manager import choose_manager
    from shoes.settings import load_settings

    settings = load_settings()
    definition = define(settings)
    return _Here(choose_manager(definition, settings.logs), definition, tuple(left_out(settings)))


def _install() -> Outcome:
    from shoes.service.installation import install

    here = _here()
    done = install(here.manager, here.definition)
    hints = here.manager.hints(here.definition)
    notes = [note for note in (done.note, *hints, *_about_secrets(here)) if note]
    head = (
        f"Installed: `shoes up` starts {here.manager.starts()}."
        if done.is_new
        else "It was installed already, and runs on."
    )
    lines = [head, "", *_facts(here, here.definition), *([""] if notes else []), *(f"note: {note}" for note in notes)]
    data = {"installed": True, "changed": done.is_new, "notes": notes, **_as_data(here, here.definition)}
    return Outcome("\n".join(lines), data)


def _about_secrets(here: _Here) -> list[str]:
    if not here.secrets:
        return []
    verb = "is a secret and is" if len(here.secrets) == 1 else "are secrets and are"
    file = here.definition.folder / ".env"
    return [f"{', '.join(here.secrets)} {verb} not written into the service: put it into {file}"]


def _uninstall() -> Outcome:
    from shoes.service.installation import uninstall

    here = _here()
    was_there = uninstall(here.manager)
    text = "Removed: `shoes up` does not start by itself any more." if was_there else "There was nothing to remove."
    return Outcome(text, {"removed": was_there, "file": str(here.manager.file)})


def _status() -> Outcome:
    from shoes.service.installation import status

    here = _here()
    found = status(here.manager, here.definition)
    data = {
        "installed": found.is_installed,
        "loaded": found.is_loaded,
        "running": found.pid is not None,
        "pid": found.pid,
        "since": found.since.isoformat() if found.since else None,
        "starts": here.manager.starts(),
        "differences": list(found.differences),
        **_as_data(here, found.written),
    }
    return Outcome("\n".join(_told(here, found)), data, found.is_good)


def _told(here: _Here, found: "Status") -> list[str]:
    if not found.is_installed:
        return ["`shoes up` is not installed as a service: `shoes service install` does it."]
    lines = [_sentence(found), ""]
    if found.written is None:
        lines.append(f"{here.manager.file} can't be read: `shoes service install` writes it anew")
    else:
        lines += [*_facts(here, found.written), f"starts    {here.manager.starts()}"]
    if found.differences:
        lines += ["", "`shoes service install` would change it:", *(f"  - {line}" for line in found.differences)]
    hints = here.manager.hints(found.written or here.definition)
    return [*lines, *([""] if hints else []), *(f"note: {hint}" for hint in hints)]


def _sentence(found: "Status") -> str:
    if found.pid is not None:
        since = f" since {found.since.astimezone():%Y-%m-%d %H:%M}" if found.since else ""
        return f"`shoes up` runs as a service{since} (process {found.pid})."
    if found.is_loaded:
        return "The service is loaded, and `shoes up` does not run: it is started again soon; the log says why."
    return "The service is installed, and does not run: `shoes service install` starts it."


def _facts(here: _Here, definition: "Definition") -> list[str]:
    return [
        f"file      {here.manager.file}",
        f"program   {' '.join(definition.program)}",
        f"folder    {definition.folder}",
        f"data      {definition.data_dir}",
        f"log       {here.manager.log}",
    ]


def _as_data(here: _Here, definition: "Definition | None") -> dict[str, Any]:
    known = definition and {
        "program": list(definition.program),
        "folder": str(definition.folder),
        "data_dir": str(definition.data_dir),
        "environment": dict(definition.environment),
    }
    return {"manager": here.manager.name, "file": str(here.manager.file), "log": here.manager.log, **(known or {})}

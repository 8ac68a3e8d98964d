"""`shoes schedule`: when this machine's nights are."""

from typing import TYPE_CHECKING, Any

import click

from shoes.cli.command import JSON, Outcome, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from prefect.client.orchestration import SyncPrefectClient

    from shoes.nights import Schedule
    from shoes.settings import Settings


@click.group()
def schedule() -> None:
    """When the nights are: show or set their hours, pause and resume them.

    Kept on this machine, in schedule.toml of the data folder, and handed to Prefect: at once while a server runs,
    else by the next `shoes up`.
    """


@schedule.command(params=[JSON])
def show(as_json: bool) -> None:
    """Show the hours, the next nights, and what the last one did."""
    run(as_json, _show)


@schedule.command("set", params=[JSON])
@click.argument("window")
@click.option("--timezone", metavar="TZ", help="IANA name, such as America/Sao_Paulo. [as before, or this machine's]")
@click.option("--recipe", metavar="NAME", help="What the night trains: overnight, prototype or demo. [as before]")
def set_(window: str, timezone: str | None, recipe: str | None, as_json: bool) -> None:
    """Set the hours of the night, such as 22:00-07:00.

    A night starts with the window, and training stops at its end with the state saved; the next night goes on. A
    paused schedule stays paused.
    """
    run(as_json, lambda: _set(window, timezone, recipe))


@schedule.command(params=[JSON])
def pause(as_json: bool) -> None:
    """Let no night start by itself until `shoes schedule resume`; one that runs goes on."""
    run(as_json, lambda: _change({"is_paused": True, "is_resumed": False}))


@schedule.command(params=[JSON])
def resume(as_json: bool) -> None:
    """Let nights start by themselves again, also when they were paused in Prefect's dashboard."""
    run(as_json, lambda: _change({"is_paused": False, "is_resumed": True}))


def _show() -> Outcome:
    from shoes import nights
    from shoes.settings import load_settings

    settings = load_settings()
    kept = nights.load(settings.data)

    def look(client: "SyncPrefectClient") -> dict[str, Any]:
        from dataclasses import asdict

        from flows.operations.nights import is_active, last_night

        last = last_night(client)
        told = None if last is None else {**asdict(last), "started": last.started.isoformat()}
        return {"is_active": is_active(client), "last": told}

    return _told(kept, _asked(settings, look), [])


def _set(window: str, timezone: str | None, recipe: str | None) -> Outcome:
    from shoes import nights
    from shoes.errors import ConfigurationError
    from shoes.settings import load_settings

    settings = load_settings()
    notes = []
    try:
        before = nights.load(settings.data)
    except ConfigurationError as error:
        before = nights.Schedule()
        notes = [f"written anew, for the former file could not be used: {error.problems[0].what}"]
    return _keep(settings, nights.changed(before, window, timezone, recipe), notes)


def _change(fields: dict[str, bool]) -> Outcome:
    from shoes import nights
    from shoes.settings import load_settings

    settings = load_settings()
    return _keep(settings, nights.load(settings.data).model_copy(update=fields), [])


def _keep(settings: "Settings", kept: "Schedule", notes: list[str]) -> Outcome:
    """Write the schedule down, and hand it to Prefect where a server runs."""
    from shoes import nights

    nights.save(kept, settings.data)

    def hand_over(client: "SyncPrefectClient") -> dict[str, Any]:
        from flows.operations.nights import apply_kept
        from shoes.errors import ConfigurationError

        try:
            return {"is_active": apply_kept(client, settings)}
        except ConfigurationError as error:  # the server is there, the deployments are not
            notes.append(f"kept; it holds from the next `shoes up`: {error.problems[0].where} {error.problems[0].what}")
            return {"is_active": None}

    return _told(kept, _asked(settings, hand_over), notes)


def _asked(settings: "Settings", body: "Callable[[SyncPrefectClient], dict[str, Any]]") -> dict[str, Any]:
    """What the body finds out from the Prefect server; nothing of it where none answers."""
    from flows.operations.environment import prepare_prefect
    from flows.operations.place import api_url

    api = api_url(settings)
    if api is None:
        return {"server": None}
    prepare_prefect()
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    from flows.operations.nights import connected
    from shoes.errors import TransientError

    try:
        with connected(api) as client:
            return {"server": api, **body(client)}
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise TransientError(
            f"The schedule on this machine is kept, and Prefect at {api} could not be asked: {error}. "
            "The same command again, or the next `shoes up`, hands it over."
        ) from error


def _told(kept: "Schedule", found: dict[str, Any], notes: list[str]) -> Outcome:
    """The schedule for people and for machines."""
    from shoes import clock, nights

    now = clock.now(kept.timezone)
    coming = kept.nights(now)
    is_resting = kept.is_paused or found.get("is_active") is False
    if not is_resting:
        notes = [*notes, *_sleep(coming[0][0])]
    lines = [
        f"Nights from {kept.starts} to {kept.ends}, {kept.timezone}; each one runs the recipe {kept.recipe}.",
        *(f"  {note}" for note in [*notes, *_state(kept, found)]),
        *([] if is_resting else ["Next nights", *(f"  {nights.in_words(night)}" for night in coming)]),
        *_last(found.get("last"), kept.timezone),
    ]
    data = {
        "window": f"{kept.starts}-{kept.ends}",
        "timezone": kept.timezone,
        "recipe": kept.recipe,
        "cron": kept.cron,
        "is_paused": kept.is_paused,
        "is_active": found.get("is_active"),
        "server": found["server"],
        "next": [] if is_resting else [{"starts": s.isoformat(), "ends": e.isoformat()} for s, e in coming],
        "last": found.get("last"),
        "notes": notes,
    }
    return Outcome("\n".join(lines), data)


def _sleep(starts: "datetime") -> list[str]:
    """What a Mac that sleeps by itself needs for a night to begin; nothing where its settings can't be read."""
    from subprocess import SubprocessError

    from shoes.environment.power import read_power, waking

    try:
        return waking(read_power(), starts)
    except (OSError, SubprocessError):
        return []


def _state(kept: "Schedule", found: dict[str, Any]) -> list[str]:
    """Whether nights start by themselves, and who says so."""
    if kept.is_paused:
        said = "Paused: no night starts by itself. `shoes schedule resume` lets them start again."
    elif found.get("is_active") is False:
        said = "Paused in Prefect's dashboard: no night starts by itself. `shoes schedule resume` wakes it."
    else:
        said = ""
    has_server = found["server"] is not None
    waits = (
        ""
        if has_server
        else "No Prefect server answers: this holds from the next `shoes up`, and no night starts before."
    )
    return [line for line in (said, waits) if line]


def _last(last: dict[str, Any] | None, timezone: str) -> list[str]:
    """What the last night did."""
    if last is None:
        return []
    from datetime import datetime
    from zoneinfo import ZoneInfo

    at = datetime.fromisoformat(last["started"]).astimezone(ZoneInfo(timezone))
    return [
        "Last night",
        f"  {at:%A} {at.day} {at:%B}, {at:%H:%M}, {last['name']}: {last['state']}",
        f"  {last['message']}",
    ]

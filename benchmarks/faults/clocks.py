"""Clocks: one that jumps, and the two nights of the year that are an hour longer or shorter.

The training asks what time it is in one place, `shoes.clock.now`. In these rows it answers by the number of steps that
were taken, so that what has to happen is known to the step.
"""

import json
from pathlib import Path

from benchmarks.faults.verdict import Verdict, judge
from benchmarks.faults.world import World, finish

CLOCK = """
import pathlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo
from shoes import clock

def steps():
    journal = next(pathlib.Path({folder!r}).glob("runs/*/journal.jsonl"), None)
    return journal.read_text().count('"train/loss"') if journal else 0

def now(timezone=None):
    done = steps()
    moment = datetime.fromisoformat({start!r}) + timedelta(minutes={minutes}) * (done - {first})
    return (moment + timedelta(hours={jumps})).astimezone(ZoneInfo(timezone or "UTC"))

clock.now = now
"""
WINDOW = {"window__starts": "22:00", "window__ends": "07:00"}


def clock_jumps(world: World, verdict: Verdict) -> Verdict:
    """Two hours back at step 20, which changes nothing; a day on at step 40, when the window is over."""
    folder = world.folder(verdict.row)
    jumps = "0 if done < 20 else -2 if done < 40 else 24"
    before = _clock(folder, "2026-01-15T23:00:00+00:00", minutes=1, first=0, jumps=jumps)
    _pauses(world, verdict, folder, before, 40, timezone="UTC")
    finish(world.train(folder, before=before, window__timezone="UTC", **WINDOW))
    return judge(verdict, folder, world.expected)


def daylight_saving(world: World, verdict: Verdict) -> Verdict:
    """22:00 to 07:00 in New York: 8 hours on one night of March, 10 on one of November. A step takes 20 minutes."""
    folder, zone = world.folder(verdict.row), "America/New_York"
    spring = _clock(folder, "2026-03-07T22:00:00-05:00", minutes=20, first=0)
    _pauses(world, verdict, folder, spring, 24, timezone=zone)
    autumn = _clock(folder, "2026-10-31T22:00:00-04:00", minutes=20, first=24)
    _pauses(world, verdict, folder, autumn, 54, timezone=zone)
    usual = _clock(folder, "2026-11-01T22:00:00-05:00", minutes=20, first=54)
    finish(world.train(folder, before=usual, window__timezone=zone, **WINDOW))
    return judge(verdict, folder, world.expected)


def _clock(folder: Path, start: str, *, minutes: int, first: int, jumps: str = "0") -> str:
    return CLOCK.format(folder=str(folder), start=start, minutes=minutes, first=first, jumps=jumps)


def _pauses(world: World, verdict: Verdict, folder: Path, before: str, step: int, *, timezone: str) -> None:
    """A night that has to pause at a step."""
    found = json.loads(finish(world.train(folder, before=before, window__timezone=timezone, **WINDOW)))
    if (found["state"], found["step"]) != ("paused", step):
        verdict.faults.append(f"{found['state']} at step {found['step']}, not paused at {step}")
    verdict.notes.append(f"paused at step {found['step']}: {found.get('reason')}")

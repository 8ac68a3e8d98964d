"""Power and sleep settings of macOS, as `pmset` prints them."""

import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta

from shoes.environment.check import Finding
from shoes.language import gettext as _
from shoes.language import ngettext

PMSET = "/usr/bin/pmset"
TO_WAKE_UP = timedelta(minutes=2)
"""So long before a night begins its Mac wakes up; where it would sleep again in that time, half of what it stays."""
KEEPERS = ("caffeinate", "amphetamine", "keepingyouawake", "caffeine", "lungo", "theine", "owly", "wakey", "jolt")
"""Programs, by the beginning of their names, that people use to keep a Mac awake. What else holds sleep off, music,
a call, a download or a backup, ends without a word."""
LOW_POWER_MODE = "1"
"""Of `powermode`, on Macs that have a high power mode, too: 0 is automatic, 2 is high power."""


@dataclass(frozen=True)
class Power:
    """What decides whether a Mac is still computing in the morning."""

    sleep_minutes: int
    """Idle minutes until the system sleeps; 0 is never."""
    kept_awake_by: str
    """Programs that are there to keep it awake, such as caffeinate."""
    is_low_power: bool
    """Low power mode slows the GPU down."""
    on_battery: bool
    on_ups: bool = False
    """The mains power is away."""
    held_for_now_by: str = ""
    """Others that hold sleep off at this moment, such as coreaudiod while music plays; powerd, which only means that
    the display is on, is left out."""
    has_power_modes: bool = False
    """Low power is one of the modes of `powermode` here, and no switch of its own."""


def read_power() -> Power | None:
    """This machine's settings; None where it is no Mac.

    Raises:
        OSError, subprocess.SubprocessError: `pmset` does not say.
    """
    if platform.system() != "Darwin":
        return None
    settings, source = (_pmset("-g", *words) for words in ((), ("batt",)))
    return parse_pmset(settings, source)


def _pmset(*words: str) -> str:
    return subprocess.run([PMSET, *words], capture_output=True, text=True, check=True, timeout=10).stdout


def parse_pmset(settings: str, source: str) -> Power:
    """The settings in use.

    Args:
        settings: what `pmset -g` prints.
        source: what `pmset -g batt` prints.
    """
    values = dict(re.findall(r"^\s+(\w+)\s+(\d+)", settings, re.MULTILINE))
    # a name may hold brackets: Google Chrome Helper (Renderer)
    holders = re.search(r"^\s+sleep\s+\d+\s+\(sleep prevented by (.*)\)\s*$", settings, re.MULTILINE)
    names = [name.strip() for name in holders[1].split(",")] if holders else []
    return Power(
        sleep_minutes=0 if values.get("SleepDisabled") == "1" else int(values.get("sleep", 0)),
        kept_awake_by=", ".join(name for name in names if is_keeper(name)),
        is_low_power=values.get("lowpowermode") == "1" or values.get("powermode") == LOW_POWER_MODE,
        on_battery="'Battery Power'" in source,
        on_ups="'UPS Power'" in source,
        held_for_now_by=", ".join(name for name in names if not is_keeper(name) and name != "powerd"),
        has_power_modes="powermode" in values,
    )


def is_keeper(name: str) -> bool:
    """A program of this name holds sleep off until somebody ends it."""
    return name.casefold().startswith(KEEPERS)


def power_finding(power: Power) -> Finding:
    """The line of the report."""
    faults, fixes = [], []
    if power.on_battery:
        faults.append(_("it runs on battery"))
        fixes.append(_("connect the charger"))
    if power.on_ups:
        faults.append(_("the mains power is away, and it runs on its UPS"))
        fixes.append(_("wait for the power: a night that is cut off goes on from its last checkpoint"))
    if power.is_low_power:
        faults.append(_("low power mode is on, which slows the GPU down"))
        command = "sudo pmset -a powermode 0" if power.has_power_modes else "sudo pmset -a lowpowermode 0"
        fixes.append(_("turn it off: {command}").format(command=command))
    if power.sleep_minutes and not power.kept_awake_by:
        faults.append(_sleeps(power.sleep_minutes))
        if power.held_for_now_by:
            faults.append(_("{programs} only holds that off for now").format(programs=power.held_for_now_by))
        fixes.append(_("let it not sleep by itself: sudo pmset -c sleep 0; or wake up, as `shoes schedule show` says"))
    if faults:
        return Finding("WARN", "; ".join(faults), "; ".join(fixes))
    if power.kept_awake_by:
        return Finding("OK", _("kept awake by {programs}").format(programs=power.kept_awake_by))
    return Finding("OK", _("the system does not sleep by itself"))


def _sleeps(minutes: int) -> str:
    text = ngettext(
        "the system sleeps after {minutes} idle minute", "the system sleeps after {minutes} idle minutes", minutes
    )
    consequence = _("a night that runs keeps it awake, a scheduled one does not begin in its sleep")
    return f"{text.format(minutes=minutes)}: {consequence}"


def waking(power: Power | None, starts: datetime) -> list[str]:
    """How a Mac that sleeps is awake when a scheduled night begins, line by line; none where that is no question.

    Args:
        starts: of a night, aware; `pmset` goes by the machine's own time zone.
    """
    if power is None or not power.sleep_minutes:
        return []
    fault, at = _sleeps(power.sleep_minutes), starts.astimezone() - before_the_night(power.sleep_minutes)
    return [
        f"{fault[0].upper()}{fault[1:]}.",
        "  to let it not sleep by itself: sudo pmset -c sleep 0",
        f"  or to wake it up:              sudo pmset repeat wakeorpoweron MTWRFSU {at:%H:%M:%S}",
        "  `shoes up` has to run, which then keeps it awake until the night has begun.",
    ]


def before_the_night(sleep_minutes: int) -> timedelta:
    """How long before a night its Mac wakes up: not so early that it sleeps again before it."""
    return min(TO_WAKE_UP, timedelta(minutes=sleep_minutes) / 2)

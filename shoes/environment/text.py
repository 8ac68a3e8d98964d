"""The report for people, in the language in use: every line, a summary, and what to do next."""

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from shoes.device import Decision
from shoes.environment.packages import install_command
from shoes.language import gettext as _
from shoes.reports import CheckResult, EnvironmentReport

Paint = Callable[[str, str], str]
"""Colours a text by a status."""
NARROWEST, WIDEST = 60, 110
_INDENT = " " * 8
_NO_BREAK = "\N{NO-BREAK SPACE}"
_DATA_SET = "Prepared data set"


def text(
    report: EnvironmentReport,
    *,
    recipe_words: str,
    dataset_dir: Path,
    decisions: Sequence[Decision] | None = None,
    width: int = 100,
    paint: Paint = lambda text, status: text,  # noqa: ARG005 - uncoloured
) -> str:
    """The whole report.

    Args:
        recipe_words: how the recipe was named on the command line, `--recipe demo` say; next steps repeat it.
        dataset_dir: where the data set is, or would be.
        decisions: what was decided about the device, to be explained; None to leave it out.
        width: columns of the terminal.
        paint: colours the statuses.
    """
    width = max(NARROWEST, min(width, WIDEST))
    blocks = ["\n".join(_lines(check, width, paint)) for check in report.checks]
    if decisions is not None:
        blocks.append("\n".join([_("Decisions"), *_explained(decisions, width)]))
    blocks.append("\n".join([_("Summary"), *_summary(report.checks, width, paint)]))
    blocks.append(_verdict(report, width, paint))
    if command := install(report):
        blocks.append("\n  ".join([_("Install what is missing:"), command]))
    steps = next_steps(report, recipe_words, dataset_dir)
    blocks.append("\n".join([_("Next steps"), *(f"  {n}. {step}" for n, step in enumerate(steps, 1))]))
    return "\n\n".join(blocks)


def rows(report: EnvironmentReport) -> list[dict[str, str]]:
    """The report as a table: one row per check."""
    return [
        {
            _("status"): check.status,
            _("check"): _(check.name),
            _("found"): check.detail.replace(":\n", ": ").replace("\n", "; "),
            _("fix"): check.fix,
            _("seconds"): f"{check.seconds:.1f}",
        }
        for check in report.checks
    ]


def install(report: EnvironmentReport) -> str:
    """The one command that installs every missing package; empty when none is missing."""
    missing = [package for check in report.checks for package in check.missing]
    return install_command(missing) if missing else ""


def next_steps(report: EnvironmentReport, recipe_words: str, dataset_dir: Path) -> list[str]:
    """Commands and advice in the order in which they help."""
    status = {check.name: check.status for check in report.checks}
    steps = []
    broken = [check.name for check in report.checks if check.status == "ERROR" and not check.missing]
    if names := ", ".join(_(name) for name in broken if name != _DATA_SET):
        steps.append(_("mend: {names}").format(names=names))
    if not dataset_dir.is_dir():
        source = "" if status.get(_DATA_SET) == "INFO" else "SOURCE "
        steps.append(f"shoes data import {source}{recipe_words}")
    elif status.get(_DATA_SET) == "ERROR":
        steps.append(f"shoes data verify {recipe_words}")
    if status.get("Model files") == "INFO":
        steps.append(f"shoes model fetch {recipe_words}")
    if report.ready:
        return [*steps, f"shoes forecast {recipe_words}", f"shoes run {recipe_words}"]
    return [*steps, f"shoes check {recipe_words}"]


def _lines(check: CheckResult, width: int, paint: Paint) -> list[str]:
    """Status and name, and below them what was found and what to do."""
    details = [line for detail in check.detail.split("\n") for line in _wrapped(detail, width, _INDENT)]
    label = _("fix: ")
    fix = _wrapped(label + check.fix, width, _INDENT, " " * len(label)) if check.fix else []
    return [f"{_tag(check, paint)} {_(check.name)}", *details, *fix]


def _tag(check: CheckResult, paint: Paint) -> str:
    """[OK], [WARN] and so on, padded to one width outside the colour."""
    tag = f"[{_(check.status)}]"
    return paint(tag, check.status) + " " * (7 - len(tag))


def _explained(decisions: Sequence[Decision], width: int) -> list[str]:
    if not decisions:
        return _wrapped(_("none: the checks above say what is in the way"), width, "  ")
    pairs = [(f"  {decision.name} = {decision.value}", decision.reason) for decision in decisions]
    return [line for head, reason in pairs for line in (head, *_wrapped(reason, width, " " * 6))]


def _summary(checks: Sequence[CheckResult], width: int, paint: Paint) -> list[str]:
    """The components, in two columns where there is room."""
    cells = [(f"  {_tag(check, paint)} ", _(check.name)) for check in checks]
    column = max(len(name) for _tag_text, name in cells) + 2
    if width < 2 * (column + 10):
        return [tag + name for tag, name in cells]
    half = (len(cells) + 1) // 2
    left = [tag + name.ljust(column) for tag, name in cells[:half]]
    right = [tag + name for tag, name in cells[half:]] + [""] * (half * 2 - len(cells))
    return [(one + other).rstrip() for one, other in zip(left, right, strict=True)]


def sentence(report: EnvironmentReport) -> str:
    """Ready or not, and why not."""
    if report.ready:
        return _("Ready for training on {device}.").format(device=report.device)
    names = [_(check.name) for check in report.checks if check.critical and check.status == "ERROR"]
    not_ready = _("Not ready for training on {device}: see {names}.")
    return not_ready.format(device=report.device, names=", ".join(names))


def _verdict(report: EnvironmentReport, width: int, paint: Paint) -> str:
    return paint("\n".join(_wrapped(sentence(report), width, "")), "OK" if report.ready else "ERROR")


def _wrapped(text: str, width: int, indent: str, hanging: str = "") -> list[str]:
    """Wrapped at blanks only: paths, and what stands between backquotes, stay whole."""
    glued = re.sub(r"`[^`]*`", lambda quoted: quoted[0].replace(" ", _NO_BREAK), text)
    lines = textwrap.wrap(
        glued,
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]

"""What a terminal shows of what runs: pure functions of what was found."""

from collections.abc import Iterable
from datetime import datetime

from flows.operations.state import Operation, RunState
from shoes.servers.record import Running
from shoes.settings import Settings


def ready(found: Running, settings: Settings) -> str:
    """The first thing to read once all runs."""
    rows = [
        ("Prefect", f"{found.dashboard}   start, retry and cancel runs; the schedule"),
        ("MLflow", f"{found.mlflow}   curves, pictures, adapters"),
        ("Logs", str(settings.logs)),
    ]
    return f"\nEverything runs. Ctrl-C stops it in order.\n\n{_table(rows)}\n"


def status(found: Operation) -> str:
    """What runs, in a few lines."""
    if not found.servers:
        return "Nothing runs. `shoes up` starts the servers and the worker."
    blocks = [
        _table([(server.name, f"{'ok ' if server.is_good else 'BAD'}  {server.detail}") for server in found.servers])
    ]
    blocks += [_block("Running", found.running)] if found.running else ["  Nothing is running."]
    if found.next_runs:
        blocks.append(_block("Next", found.next_runs))
    if found.last:
        blocks.append(_block("Last", [found.last]))
    return "\n\n".join(blocks)


def _block(title: str, runs: Iterable[RunState]) -> str:
    lines = [_line(run) for run in runs]
    return "\n".join(f"  {title if not number else '':8}{line}" for number, line in enumerate(lines))


def _line(run: RunState) -> str:
    parts = [_when(run.at), f"{run.name}: {run.state}", run.detail]
    return "  ".join(part for part in parts if part)


def _when(at: datetime | None) -> str:
    return f"{at.astimezone():%a %d %b %H:%M}" if at else ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    kept = list(rows)
    width = max(len(name) for name, _ in kept) + 2
    return "\n".join(f"  {name:{width}}{detail}" for name, detail in kept)

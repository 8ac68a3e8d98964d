"""Things that two want at once: a port, and the device."""

import socket

from benchmarks.faults.processes import ended, spans, start
from benchmarks.faults.verdict import Verdict, judge
from benchmarks.faults.world import World
from tests.operations.live import LiveUp


def port_taken(world: World, verdict: Verdict) -> Verdict:
    """Another program has the port of Prefect's dashboard: it is said, nothing is left, and later all goes well."""
    folder = world.folder(verdict.row)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        up = LiveUp(folder.parent, {"SHOES_PREFECT_PORT": port})
        told = up.shoes("up")
    if told.returncode != 2 or "SHOES_PREFECT_PORT" not in told.stderr:
        verdict.faults.append(f"`shoes up` ended with {told.returncode} and said: {told.stderr[-500:]}")
    if up.leftovers():
        verdict.faults.append("something runs on")
    with up:
        verdict.prefect = ended(up, start(up))
    return judge(verdict, folder, world.expected)


def two_schedulers(world: World, verdict: Verdict) -> Verdict:
    """Two `shoes up`, each with a worker of its own, train on one device: the second run waits for the first."""
    folders = [world.folder(f"{verdict.row}-{which}") for which in ("one", "two")]
    locks = {"SHOES_LOCK_DIR": str(world.work / verdict.row / "locks")}
    with LiveUp(folders[0].parent, locks) as one, LiveUp(folders[1].parent, locks) as two:
        runs = [(up, start(up)) for up in (one, two)]
        states = [ended(up, run) for up, run in runs]
    verdict.prefect = "COMPLETED" if states == ["COMPLETED"] * 2 else ", ".join(states)
    (first,), (second,) = sorted(map(spans, folders))
    if second[0] < first[1]:
        verdict.faults.append("both computed at once")
    verdict.notes.append(f"the second one began {(second[0] - first[1]) / 1000:.1f} s after the first one's last step")
    for folder in folders:
        judge(verdict, folder, world.expected)
    return verdict

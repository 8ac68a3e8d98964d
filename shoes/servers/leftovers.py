"""Programs of an earlier `shoes up` that was killed before it could stop them."""

import logging
from contextlib import suppress

import psutil

from shoes.servers import record
from shoes.settings import Settings

log = logging.getLogger(__name__)
SECONDS_TO_STOP = 10.0


def stop_leftovers(settings: Settings) -> list[str]:
    """Stop them; their names. The caller holds `record.only_one`, so that their `shoes up` is dead.

    The worker is killed at once: told to stop, it would end its flow runs, which can go on without it.
    """
    found = record.read(settings)
    if found is None:
        return []
    left = {name: process for name, seat in found.programs.items() if (process := seat.process()) is not None}
    for name, process in left.items():
        with suppress(psutil.NoSuchProcess):
            process.kill() if name == "worker" else process.terminate()
    _, alive = psutil.wait_procs(left.values(), timeout=SECONDS_TO_STOP)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=SECONDS_TO_STOP)
    if left:
        log.info("stopped what a former `shoes up` had left: %s", ", ".join(left))
    record.remove(settings)
    return list(left)

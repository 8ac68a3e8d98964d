"""Stopping the `shoes up` of a data folder from somewhere else."""

import logging
import signal
import time

from shoes.errors import ShoesError
from shoes.servers import record
from shoes.servers.leftovers import stop_leftovers
from shoes.settings import Settings

log = logging.getLogger(__name__)
SECONDS_TO_STOP = 120.0
"""Saving a run's state, the worker and two servers take less."""


def stop(settings: Settings) -> list[str]:
    """Ask it to stop as Ctrl-C does, wait until it is gone, and stop what a killed one had left.

    Returns:
        The names of what ran.

    Raises:
        ShoesError: it does not stop.
    """
    found = record.running(settings)
    if found is None:
        return stop_leftovers(settings)
    process = found.up.process()
    if process is not None:
        process.send_signal(signal.SIGINT)
    until = time.monotonic() + SECONDS_TO_STOP
    while found.up.is_alive:
        if time.monotonic() > until:
            raise ShoesError(f"`shoes up` (process {found.up.pid}) does not stop. Kill it, and run `shoes down` again.")
        time.sleep(0.2)
    stop_leftovers(settings)
    return list(found.programs)

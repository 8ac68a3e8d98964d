"""How many files a process and what it starts may have open."""

import resource
from contextlib import suppress

NUM_FILES = 8192
"""macOS gives 256, in a terminal and to what launchd starts: too few for two servers, their databases and a worker."""


def allow_many_files(wanted: int = NUM_FILES) -> None:
    """Raise the limit of this process, which those that it starts inherit, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

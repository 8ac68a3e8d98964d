"""A training's progress in Prefect's dashboard, while it runs."""

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from shoes.progress import Progress, pace

SECONDS_BETWEEN_POSTS = 5.0
SECONDS_TO_FINISH = 10.0
"""How long the end of the work waits for the last post. A dashboard that is away holds nothing up."""


class Post(Protocol):
    """Shows how much is done, in percent, with a line of Markdown."""

    def __call__(self, percent: float, text: str) -> None: ...  # noqa: D102


class Artifact:
    """One progress artifact of the current task run: made at the first post, changed afterwards."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._id: UUID | None = None

    def __call__(self, percent: float, text: str) -> None:
        """Make or change the artifact; what goes wrong with Prefect's API is raised at once."""
        # by itself the client would try again for more than a minute, with a state that is old by then
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            if self._id is None:
                self._id = create_progress_artifact(progress=percent, key=self._key, description=text)
            else:
                update_progress_artifact(self._id, progress=percent, description=text)


@contextmanager
def live(key: str) -> Iterator[Progress]:
    """A reporter whose newest state is shown as the progress artifact `key` of the current task run.

    Reporting only leaves a note for a thread of its own, which is started by the first report.
    """
    reporter = Live(Artifact(key))
    try:
        yield reporter
    finally:
        reporter.close()


class Live:
    """Hands the newest state to `post`, at most once in `SECONDS_BETWEEN_POSTS`, and the last one at the end.

    When it fails, that is said once, in the run's log, and costs nothing else: the next state is tried again.
    """

    def __init__(self, post: Post) -> None:
        self._post = post
        self._state: tuple[int, int, str] | None = None
        self._start = (0, 0.0)
        self._thread: threading.Thread | None = None
        self._has_news, self._is_over = threading.Event(), threading.Event()
        self._is_away = False

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Leave the newest state for the thread; returns at once."""
        self._state = (done, total, note)
        if self._thread is None:
            self._start = (done, time.monotonic())
            # Prefect knows the run, and the address of its API, by the context of the thread that asks
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._work,), name="live-progress", daemon=True)
            self._thread.start()
        self._has_news.set()

    def close(self) -> None:
        """Let the last state be posted, and end."""
        self._is_over.set()
        self._has_news.set()
        if self._thread is not None:
            self._thread.join(0 if self._is_away else SECONDS_TO_FINISH)

    def _work(self) -> None:
        while not self._is_over.is_set():
            self._has_news.wait()
            self._has_news.clear()
            self._show()
            self._is_over.wait(SECONDS_BETWEEN_POSTS)
        self._show()

    def _show(self) -> None:
        assert self._state is not None, "the thread is started by a report"
        done, total, note = self._state
        try:
            self._post(100 * done / max(total, 1), self._text(done, total, note))
        except Exception as error:  # noqa: BLE001 - whatever Prefect's API has, the training goes on
            if not self._is_away:
                get_run_logger().warning("the dashboard's progress bar can't be moved: %s", error)
            self._is_away = True
        else:
            self._is_away = False

    def _text(self, done: int, total: int, note: str) -> str:
        first, started = self._start
        words = pace(done - first, time.monotonic() - started, total - done) if done < total else "all done"
        return ", ".join(part for part in (f"step {done:,} of {total:,}", note, words) if part)

"""A training's progress and pictures in Prefect's dashboard, while it runs."""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from shoes.progress import Progress, pace
from shoes.stages import TrainingPlace
from tasks.links import run_link, samples_markdown

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
        with _one_try():
            if self._id is None:
                self._id = create_progress_artifact(progress=percent, key=self._key, description=text)
            else:
                update_progress_artifact(self._id, progress=percent, description=text)


class Samples:
    """The newest validation's pictures as one artifact of the current task run: made once, changed afterwards."""

    def __init__(self, place: TrainingPlace, key: str = "samples") -> None:
        self._place, self._key = place, key
        self._id: UUID | None = None
        self._shown: Path | None = None

    def __call__(self) -> None:
        """Show what is new; what goes wrong with Prefect's API is raised at once."""
        newest = max(self._place.samples.glob("step-*.png"), default=None)
        text = samples_markdown(newest, self._place.pages()) if newest not in (None, self._shown) else None
        if text is None:  # nothing new, or still being written
            return
        with _one_try():
            if self._id is None:
                said = "What base and adapter draw, at the last validation"
                self._id = create_markdown_artifact(text, key=self._key, description=said)
            else:
                with get_client(sync_client=True) as client:
                    client.update_artifact(self._id, ArtifactUpdate(data=text))
        self._shown = newest


@contextmanager
def _one_try() -> Iterator[None]:
    """By itself the client would try again for more than a minute, with a state that is old by then."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        yield


@contextmanager
def live(key: str, place: TrainingPlace | None = None) -> Iterator[Progress]:
    """A reporter whose newest state is shown as the progress artifact `key` of the current task run.

    Reporting only leaves a note for a thread of its own.

    Args:
        place: where the training can be watched: its pictures are shown too, and its run in MLflow is linked.
    """
    if place is None:
        reporter = Live(Artifact(key))
    else:
        reporter = Live(Artifact(key), lambda: run_link(place.pages()), Samples(place))
    try:
        yield reporter
    finally:
        reporter.close()


class Live:
    """Hands the newest state to `post`, at most once in `SECONDS_BETWEEN_POSTS`, and the last one at the end.

    When it fails, that is said once, in the run's log, and costs nothing else: the next state is tried again.

    Args:
        footer: Markdown below the state, asked for at each post.
        then: what else is shown, after each post.
    """

    def __init__(self, post: Post, footer: Callable[[], str] = str, then: Callable[[], None] | None = None) -> None:
        self._post, self._footer, self._then = post, footer, then
        self._state: tuple[int, int, str] | None = None
        self._start = (0, 0.0)
        self._has_news, self._is_over = threading.Event(), threading.Event()
        self._is_away = False
        # Prefect knows the run, and the address of its API, by the context of the thread that asks
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="live-progress", daemon=True)
        self._thread.start()

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Leave the newest state for the thread; returns at once."""
        if self._state is None:
            self._start = (done, time.monotonic())
        self._state = (done, total, note)
        if not self._has_news.is_set():  # waking a thread takes longer than all the rest
            self._has_news.set()

    def close(self) -> None:
        """Let the last state be posted, and end."""
        self._is_over.set()
        self._has_news.set()
        self._thread.join(0 if self._is_away else SECONDS_TO_FINISH)

    def _work(self) -> None:
        while not self._is_over.is_set():
            self._has_news.wait()
            self._has_news.clear()
            self._show()
            self._is_over.wait(SECONDS_BETWEEN_POSTS)
        self._show()

    def _show(self) -> None:
        if self._state is None:  # the work has ended before its first report
            return
        done, total, note = self._state
        try:
            text = "\n\n".join(part for part in (self._text(done, total, note), self._footer()) if part)
            self._post(100 * done / max(total, 1), text)
            if self._then is not None:
                self._then()
        except Exception as error:  # noqa: BLE001 - whatever Prefect's API has, the training goes on
            if not self._is_away:
                get_run_logger().warning("the dashboard can't be told of the progress; the training goes on: %s", error)
            self._is_away = True
        else:
            self._is_away = False

    def _text(self, done: int, total: int, note: str) -> str:
        first, started = self._start
        words = pace(done - first, time.monotonic() - started, total - done) if done < total else "all done"
        return ", ".join(part for part in (f"step {done:,} of {total:,}", note, words) if part)

"""MLflow as a replay of the journal, sent by a thread of its own.

The training thread never waits for MLflow: it writes the journal, and this thread reads it from where it last
got to. When MLflow is away it tries again later; what is left at the end is sent by the next process that
opens the run. Points keep the journal's times, and MLflow keeps a point of the same time, step and value
once, so that sending twice doubles nothing.
"""

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from shoes.durability import make_engines_durable
from shoes.errors import TrackingRefused, TrackingUnavailable
from shoes.litter import without_litter
from shoes.settings import hand_on
from shoes.storage import found_below, where_now, write_text
from shoes.tracking.database import make_database
from shoes.tracking.failures import failures, is_refused, refusal, unavailable
from shoes.tracking.journal import Event, read_with_offsets
from shoes.tracking.origin import origin
from shoes.tracking.pages import bookmark, read_bookmark

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)
SECONDS_BETWEEN_SENDS = 1.0
SECONDS_BETWEEN_REFUSALS = 30.0
SECONDS_TO_FINISH = 60.0
SECONDS_WHEN_INTERRUPTED = 8.0
EVENTS_PER_BATCH = 500
_LOADING = threading.Lock()
"""Two threads that import MLflow at once can meet halves of its modules: Python breaks the deadlock of its locks so."""


@dataclass(frozen=True)
class Destination:
    """Which run of which experiment in which store."""

    tracking_uri: str
    artifact_root: Path
    """Where artifacts go when the store is a local database."""
    experiment: str
    run_name: str
    fingerprint: str
    """Tag by which the run is found again after a restart, beside that of the data folder (`origin`)."""


def connect(tracking_uri: str) -> "MlflowClient":
    """A client that gives up soon: waiting is this module's job, not the client's.

    User and password are MLflow's own variables, of the environment or of `.env`.
    """
    hand_on("MLFLOW_")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # with --json, one object stands there
    with _LOADING:
        import mlflow

        make_engines_durable()

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a page for what we say in a line
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each try of a night's outage
    make_database(tracking_uri)
    mlflow.set_tracking_uri(tracking_uri)
    return mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


class Mirror:
    """Replays one journal into one MLflow run."""

    def __init__(self, journal: Path, destination: Destination) -> None:
        self._journal = journal
        self._to = destination
        self._offset = 0
        self._client: MlflowClient | None = None
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self._sending = threading.Lock()

    def send(self) -> None:
        """Send what is new.

        Raises:
            TrackingUnavailable: MLflow did not answer; the rest is sent by the next call.
            TrackingRefused: it answered, and lets us not in.
        """
        try:
            with self._sending:
                self._catch_up()
        except failures() as error:
            if is_refused(error):
                self._client = None  # who opens it again looks into .env again
                raise refusal(self._to.tracking_uri, error) from error
            raise unavailable(self._to.tracking_uri, error) from error

    def _catch_up(self) -> None:
        if self._client is None and self._is_up_to_date():
            return
        if self._client is None:
            self._open()
        batch: list[Event] = []
        end = self._offset
        for event, end in read_with_offsets(self._journal, self._offset):
            batch.append(event)
            if len(batch) == EVENTS_PER_BATCH:
                self._replay(batch, end)
                batch = []
        if batch:
            self._replay(batch, end)

    def require_run(self) -> str:
        """The run's id, after sending what is new.

        Raises:
            TrackingUnavailable: MLflow did not answer.
            TrackingRefused: it answered, and lets us not in.
        """
        self.send()
        assert self.run_id is not None
        return self.run_id

    def _is_up_to_date(self) -> bool:
        """All of the journal was sent before; then MLflow need not even be loaded."""
        mark = self._read_bookmark()
        if not self._journal.exists() or mark.get("offset") != self._journal.stat().st_size:
            return False
        self.run_id, self.experiment_id = mark["run_id"], mark.get("experiment_id")
        return True

    def _open(self) -> None:
        client = connect(self._to.tracking_uri)
        self.experiment_id = experiment = _experiment(client, self._to)
        tags = {"fingerprint": self._to.fingerprint, "origin": origin(self._to.artifact_root.parent)}
        run = _find_run(client, experiment, tags)
        self.run_id = run or _create_run(client, experiment, tags, self._to.run_name)
        self._client = client
        mark = self._read_bookmark()
        self._offset = int(mark["offset"]) if mark.get("run_id") == self.run_id else 0

    def _read_bookmark(self) -> dict[str, Any]:
        return read_bookmark(self._journal, self._to.tracking_uri)

    def _replay(self, events: list[Event], offset: int) -> None:
        from mlflow.entities import Metric, Param, RunTag

        assert self._client is not None
        assert self.run_id is not None
        metrics = [
            Metric(key, value, event["time"], event["step"])
            for event in events
            if event["kind"] == "metrics"
            for key, value in event["values"].items()
        ]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + 1000])
        for event in events:
            match event["kind"]:
                case "parameters":
                    params = [Param(key, value) for key, value in event["values"].items()]
                    self._client.log_batch(self.run_id, params=params)
                case "tags":
                    tags = [RunTag(key, value) for key, value in event["values"].items()]
                    self._client.log_batch(self.run_id, tags=tags)
                case "image":
                    self._send_image(event)
                case "artifact":
                    self._send_artifact(event)
                case "data_set":
                    self._send_data_set(event)
                case "status":
                    self._send_status(event)
        self._offset = offset
        run = {"run_id": self.run_id, "experiment_id": self.experiment_id}
        mark = {"offset": offset, **run, "tracking_uri": self._to.tracking_uri}
        write_text(bookmark(self._journal), json.dumps(mark))

    def _send_image(self, event: Event) -> None:
        from PIL import Image

        assert self._client is not None
        assert self.run_id is not None
        path = self._place(event)
        if self._has_image(event) or not path.exists():
            return
        with Image.open(path) as image:
            self._client.log_image(
                self.run_id,
                image.convert("RGB"),
                key=event["key"],
                step=event["step"],
                timestamp=event["time"],
                synchronous=True,
            )

    def _has_image(self, event: Event) -> bool:
        """The picture was sent before; MLflow puts key, step and time into the file's name, and a random part."""
        assert self._client is not None
        parts = (event["key"].replace("/", "#"), "step", str(event["step"]), "timestamp", str(event["time"]))
        name = re.compile("images/" + "[%+]".join(map(re.escape, parts)) + "[%+]")
        return any(name.match(file.path) for file in self._client.list_artifacts(self.run_id, "images"))

    def _place(self, event: Event) -> Path:
        """Where an event's file is now: the data folder may have been carried to another place since."""
        path = where_now(Path(event["path"]), self._journal.parent)
        return path if path.exists() else found_below(self._journal.parents[2], path)

    def _send_artifact(self, event: Event) -> None:
        assert self._client is not None
        path = self._place(event)
        if path.is_dir():
            self._send_folder(path, event["folder"])
        elif path.exists():
            self._client.log_artifact(self.run_id, str(path), event["folder"] or None)
        else:
            log.warning("%s is gone and can't be kept in MLflow", path)

    def _send_folder(self, folder: Path, target: str) -> None:
        assert self._client is not None
        for file in sorted(path for path in without_litter(folder.rglob("*"), folder) if path.is_file()):
            place = PurePosixPath(target, file.relative_to(folder).parent.as_posix())
            self._client.log_artifact(self.run_id, str(file), None if place == PurePosixPath() else str(place))

    def _send_data_set(self, event: Event) -> None:
        """MLflow keeps an input of the same name and digest once in a run."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

        assert self._client is not None
        about = {key: value if key == "source_type" else json.dumps(value) for key, value in event["about"].items()}
        data_set = Dataset(event["name"], event["digest"], **about)
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, event["context"])]
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(data_set, tags)])

    def _send_status(self, event: Event) -> None:
        assert self._client is not None
        if event["status"] in {"RUNNING", "SCHEDULED"}:
            self._client.update_run(self.run_id, status=event["status"])
        else:
            self._client.set_terminated(self.run_id, event["status"], end_time=event["time"])


@contextmanager
def mirrored(journal: Path, destination: Destination) -> Iterator[Mirror]:
    """Send the journal on in the background while the block runs, and the rest when it ends.

    A store that hangs then is waited for, but not long where the block was interrupted: who cancelled it waits too.
    """
    mirror = Mirror(journal, destination)
    ended = threading.Event()
    thread = threading.Thread(target=_keep_sending, args=(mirror, ended), name="mlflow-mirror", daemon=True)
    thread.start()
    seconds = SECONDS_TO_FINISH
    try:
        yield mirror
    except BaseException as error:
        if not isinstance(error, Exception):
            seconds = SECONDS_WHEN_INTERRUPTED
        raise
    finally:
        ended.set()
        thread.join(seconds)
        if thread.is_alive():
            log.warning("MLflow is slow; what it still lacks is sent when this run is next opened")


def _keep_sending(mirror: Mirror, ended: threading.Event) -> None:
    is_away, pause = False, SECONDS_BETWEEN_SENDS
    while True:
        is_last = ended.wait(pause)
        try:
            mirror.send()
        except (TrackingUnavailable, TrackingRefused) as error:
            if not is_away:
                log.warning("%s. The journal keeps everything; it is sent when MLflow takes it.", error)
            is_away = True
            pause = SECONDS_BETWEEN_REFUSALS if isinstance(error, TrackingRefused) else SECONDS_BETWEEN_SENDS
        else:
            if is_away:
                log.info("MLflow is back: the journal has caught up")
            is_away, pause = False, SECONDS_BETWEEN_SENDS
        if is_last:
            return


def _experiment(client: "MlflowClient", to: Destination) -> str:
    found = client.get_experiment_by_name(to.experiment)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    local = to.tracking_uri.startswith("sqlite:")
    location = (to.artifact_root / to.experiment).as_uri() if local else None
    return _create_experiment(client, to.experiment, location)


def _create_experiment(client: "MlflowClient", name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(name, artifact_location=location))
    except MlflowException as error:
        found = client.get_experiment_by_name(name)
        if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
            raise
        return str(found.experiment_id)  # another process was faster


def _find_run(client: "MlflowClient", experiment: str, tags: dict[str, str]) -> str | None:
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    runs = client.search_runs([experiment], wanted, max_results=1)
    return runs[0].info.run_id if runs else None


def _create_run(client: "MlflowClient", experiment: str, tags: dict[str, str], name: str) -> str:
    now = time.time_ns() // 1_000_000
    run = client.create_run(experiment, start_time=now, tags=dict[str, Any](tags), run_name=name)
    return str(run.info.run_id)

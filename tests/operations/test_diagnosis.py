"""What each error of the outside world means for another try: a table."""

import errno
import platform
import socket
import sqlite3

import httpx
import httpx2
import huggingface_hub.errors as hub
import mlflow.exceptions as tracking
import pytest
import requests
import sqlalchemy.exc
import torch
import urllib3.exceptions
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from prefect.exceptions import PrefectHTTPStatusError
from prefect.task_engine import TaskRunTimeoutError

from shoes.errors import (
    Busy,
    ConfigurationError,
    DataError,
    NotReady,
    Problem,
    TrackingUnavailable,
    TrainingError,
    TransientError,
)
from shoes.local_network import is_local
from shoes.tracking.failures import unavailable
from tasks import diagnosis
from tasks.diagnosis import diagnose
from tasks.retrying import LIMITS, TRAINING_MARGIN, final, training_limit

PROBLEM = [Problem("train.rank", "is 0", "set it to 8")]
REQUEST = httpx.Request("GET", "http://hub.example")


def answered(status: int) -> Exception:
    answer = requests.Response()
    answer.status_code = status
    return requests.exceptions.HTTPError("no", response=answer)


def prefects(status: int) -> Exception:
    answer = httpx.Response(status, request=REQUEST, json={})
    return PrefectHTTPStatusError("no", request=REQUEST, response=answer)


def from_(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def sql(words: str) -> Exception:
    return sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(words))


NETWORK = [
    TransientError("the Hub is away"),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx2.ConnectError("refused"),
    httpx2.RemoteProtocolError("cut off"),
    requests.exceptions.ConnectionError("refused"),
    requests.exceptions.ReadTimeout("slow"),
    requests.exceptions.ChunkedEncodingError("cut off"),
    urllib3.exceptions.ProtocolError("cut off"),
    urllib3.exceptions.MaxRetryError(urllib3.HTTPConnectionPool("x"), "/"),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("timed out"),
    socket.gaierror(socket.EAI_AGAIN, "name resolution"),
    OSError(errno.EHOSTUNREACH, "no route"),
    OSError(errno.ESTALE, "the share was mounted anew"),
    answered(503),
    answered(429),
    prefects(500),
    from_(ValueError("could not load"), httpx.ConnectError("refused")),
    from_(tracking.MlflowException("API request failed"), requests.exceptions.ConnectionError("refused")),
]
TRACKING = [TrackingUnavailable("away"), tracking.MlflowException("busy", error_code=TEMPORARILY_UNAVAILABLE)]
DATABASE = [
    sqlite3.OperationalError("database is locked"),
    sql("database is locked"),
    sqlalchemy.exc.OperationalError("SELECT", {}, Exception("connection to server failed: Connection refused")),
    from_(tracking.MlflowException("failed"), sql("database is locked")),
]
MEMORY = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]
DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    sql("database or disk is full"),
    from_(RuntimeError("could not write"), OSError(errno.ENOSPC, "No space left on device")),
]
OTHERS = [
    (hub.OfflineModeIsEnabled("offline"), diagnosis.OFFLINE),
    (TaskRunTimeoutError("Scope timed out after 3 second(s)."), diagnosis.TOO_LONG),
    (answered(401), diagnosis.REFUSED),
    (answered(404), diagnosis.REFUSED),
    (prefects(404), diagnosis.REFUSED),
    (ConfigurationError(PROBLEM), diagnosis.PROBLEMS),
    (DataError(PROBLEM), diagnosis.PROBLEMS),
    (NotReady(PROBLEM), diagnosis.MACHINE),
    (Busy("another process trains it"), diagnosis.IN_USE),
    (TrainingError("the memory is too small for one image"), diagnosis.TOLD),
    (from_(DataError(PROBLEM), httpx.ConnectError("refused")), diagnosis.PROBLEMS),
    (FileNotFoundError(errno.ENOENT, "gone"), diagnosis.UNKNOWN),
    (PermissionError(errno.EACCES, "no"), diagnosis.UNKNOWN),
    (sql("attempt to write a readonly database"), diagnosis.UNKNOWN),
    (sql("no such table: runs"), diagnosis.UNKNOWN),
    (requests.exceptions.InvalidURL("ht!tp"), diagnosis.UNKNOWN),
    (tracking.MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), diagnosis.UNKNOWN),
    (RuntimeError("shapes do not fit"), diagnosis.UNKNOWN),
    (ValueError("no"), diagnosis.UNKNOWN),
]
TABLE = [
    *((error, diagnosis.NETWORK) for error in NETWORK),
    *((error, diagnosis.TRACKING) for error in TRACKING),
    *((error, diagnosis.DATABASE) for error in DATABASE),
    *((error, diagnosis.MEMORY) for error in MEMORY),
    *((error, diagnosis.DISK) for error in DISK),
    *OTHERS,
]


@pytest.mark.parametrize(
    ("error", "expected"), TABLE, ids=[f"{type(error).__name__}-{n}" for n, (error, _) in enumerate(TABLE)]
)
def test_what_an_error_comes_from(error: Exception, expected: diagnosis.Diagnosis) -> None:
    assert diagnose(error) == expected


NO_ROUTE = "HTTPConnectionPool(host='192.168.1.5', port=5001): [Errno 65] No route to host"


@pytest.mark.parametrize(
    ("error", "system", "is_told"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "Darwin", True),
        (httpx.ConnectError("[Errno 65] No route to host"), "Darwin", True),
        (requests.exceptions.ConnectionError(NO_ROUTE), "Darwin", True),
        (requests.exceptions.ConnectionError(NO_ROUTE.replace("192.168.1.5", "studio.local")), "Darwin", True),
        (from_(tracking.MlflowException("failed"), requests.exceptions.ConnectionError(NO_ROUTE)), "Darwin", True),
        (requests.exceptions.ConnectionError(NO_ROUTE.replace("192.168.1.5", "huggingface.co")), "Darwin", False),
        (requests.exceptions.ConnectionError("Connection refused"), "Darwin", False),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "Linux", False),
    ],
)
def test_macos_may_have_kept_it_from_the_local_network(
    error: Exception, system: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    assert diagnose(error) == (diagnosis.NOT_ALLOWED if is_told else diagnosis.NETWORK)
    assert ("Privacy & Security → Local Network" in diagnose(error).advice) is is_told
    told = str(unavailable("http://192.168.1.5:5001", error))
    assert ("Privacy & Security → Local Network" in told) is is_told


@pytest.mark.parametrize(
    ("host", "expected"),
    [("192.168.1.5", True), ("10.0.0.2", True), ("fe80::1", True), ("studio.local", True), ("nas", True),
     ("127.0.0.1", False), ("localhost", False), ("8.8.8.8", False), ("mlflow.example.com", False), ("", False)],
)  # fmt: skip
def test_what_is_in_the_local_network(host: str, expected: bool) -> None:
    assert is_local(host) is expected


def test_only_what_waiting_mends_is_tried_again() -> None:
    transient = {found.cause for _, found in TABLE if found.is_transient}
    assert transient == {d.cause for d in (diagnosis.NETWORK, diagnosis.TRACKING, diagnosis.DATABASE, diagnosis.MEMORY)}


def test_an_error_that_was_overcome_counts_for_nothing() -> None:
    def raise_it() -> None:
        try:
            raise ConnectionError("refused")
        except ConnectionError:
            raise ValueError("the file is damaged") from None

    with pytest.raises(ValueError, match="damaged") as caught:
        raise_it()
    assert diagnose(caught.value) == diagnosis.UNKNOWN


def test_a_failure_says_what_to_do() -> None:
    assert final(diagnosis.DISK) == (
        "not tried again: the disk is full, and waiting can't mend that. Please free some space, or set SHOES_DATA_DIR "
        "to a folder on a larger disk; then press Retry on the flow run's page, or start the same command again. What "
        "is done is kept."
    )
    assert "it took longer than its limit, 12 h 0 min, and" in final(diagnosis.TOO_LONG, LIMITS["fetch-model"])


@pytest.mark.parametrize(
    ("left", "limit"), [(9 * 3600.0, 11 * 3600.0), (-5.0, TRAINING_MARGIN), (None, 7 * 24 * 3600.0)]
)
def test_a_training_may_take_its_window_and_a_margin(left: float | None, limit: float) -> None:
    assert training_limit(left) == limit

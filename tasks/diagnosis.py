"""Why a stage failed, in words: whether waiting can mend it, and what a person does about it.

Pure functions of the error. Errors of the outside world are known by the names of their classes, so that no library is
loaded for the sake of a comparison.
"""

import errno
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from shoes import local_network
from shoes.device.memory import is_out_of_memory
from shoes.errors import Busy, NotReady, ProblemsError, ShoesError, TrackingUnavailable, TransientError
from shoes.local_network import LOCAL_NETWORK
from shoes.storage import is_disk_full


@dataclass(frozen=True)
class Diagnosis:
    """What an error comes from."""

    cause: str
    """In words, as the beginning of a sentence."""
    is_transient: bool
    """Waiting and trying again may help."""
    advice: str
    """What a person does, as a sentence without its end."""


NETWORK = Diagnosis("the network or a server did not answer", True, "see that it can be reached")
NOT_ALLOWED = Diagnosis(
    "the network or a server did not answer", True, f"see that it can be reached, and that it may be: {LOCAL_NETWORK}"
)
TRACKING = Diagnosis("MLflow did not answer", True, "see that its server or database can be reached")
DATABASE = Diagnosis("a database was locked or away", True, "end what holds it")
MEMORY = Diagnosis("the memory was full", True, "close what takes memory, or set a smaller train.train_batch_size")
DISK = Diagnosis("the disk is full", False, "free some space, or set SHOES_DATA_DIR to a folder on a larger disk")
TOO_LONG = Diagnosis("it took longer than its limit", False, "see in the log what it was at")
OFFLINE = Diagnosis("the Hub's client is switched off", False, "unset HF_HUB_OFFLINE, or name a local folder")
REFUSED = Diagnosis("a server refused the request", False, "see that the address, the name and the token are right")
PROBLEMS = Diagnosis("the configuration, the data or the model is not right", False, "mend what the error lists")
MACHINE = Diagnosis("this machine is not ready", False, "mend what the error lists")
IN_USE = Diagnosis("something else holds this run or this device", False, "let that end, or stop it")
TOLD = Diagnosis("it can't go on as it is", False, "do what the message says")
UNKNOWN = Diagnosis("an error that is not known", False, "see the traceback in the log, and mend its cause")

_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "aiohttp", "websockets")
_NO_ANSWER = {
    "TransportError", "ConnectionError", "Timeout", "ChunkedEncodingError", "ContentDecodingError",
    "ProtocolError", "TimeoutError", "MaxRetryError", "NetworkError", "TimeoutException", "ClientConnectionError",
    "ConnectionClosed",
}  # fmt: skip
"""Classes of these clients whose request was not answered, and of what those derive."""
_ERRNOS = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EHOSTDOWN,
    errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EPIPE, errno.ESTALE,
}  # fmt: skip
"""What the system says of connections and of network shares."""
_BUSY_STATUS = {408, 425, 429, 500, 502, 503, 504}
_MLFLOW_IS_BUSY = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_DATABASE_IS_BUSY = ("database is locked", "database table is locked", "database is busy")
_CONNECTION_LOST = ("connection refused", "could not connect", "connection failed", "server closed the connection",
                    "connection timed out", "terminating connection", "starting up", "too many clients")  # fmt: skip


def diagnose(error: BaseException) -> Diagnosis:
    """What an error, or one that it came from, says about another try. Our own errors speak for themselves."""
    if isinstance(error, ShoesError):
        found = _our_own(error)
        return NOT_ALLOWED if found is NETWORK and local_network.advice(error) else found
    if is_disk_full(error):
        return DISK
    told = (rule(cause) for cause in _chain(error) for rule in _RULES)
    return next((diagnosis for diagnosis in told if diagnosis is not None), UNKNOWN)


def _our_own(error: ShoesError) -> Diagnosis:
    kinds: tuple[tuple[type[ShoesError], Diagnosis], ...] = (
        (TrackingUnavailable, TRACKING),
        (TransientError, NETWORK),
        (NotReady, MACHINE),
        (ProblemsError, PROBLEMS),
        (Busy, IN_USE),
    )
    return next((diagnosis for kind, diagnosis in kinds if isinstance(error, kind)), TOLD)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it came from, the last one first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def _names(error: BaseException) -> set[str]:
    """Names of an error's class and of all that it derives from, such as httpx.ConnectError."""
    return {f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__}


def _limit(error: BaseException) -> Diagnosis | None:
    """Prefect's time limits. They are TimeoutErrors, as those of a socket are."""
    limits = {"prefect.task_engine.TaskRunTimeoutError", "prefect.flow_engine.FlowRunTimeoutError"}
    return TOO_LONG if limits & _names(error) else None


def _answer(error: BaseException) -> Diagnosis | None:
    """An answer that is an error: a server that is in trouble, or one that says no."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if not isinstance(status, int):
        return None
    return NETWORK if status in _BUSY_STATUS else REFUSED


def _no_answer(error: BaseException) -> Diagnosis | None:
    names = _names(error)
    if "huggingface_hub.errors.OfflineModeIsEnabled" in names:
        return OFFLINE
    is_clients = any(name.split(".")[0] in _CLIENTS and name.rpartition(".")[2] in _NO_ANSWER for name in names)
    is_systems = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        is_systems = True
    if not is_clients and not is_systems:
        return None
    return NOT_ALLOWED if local_network.advice(error) else NETWORK


def _tracking(error: BaseException) -> Diagnosis | None:
    is_mlflow = "mlflow.exceptions.MlflowException" in _names(error)
    return TRACKING if is_mlflow and getattr(error, "error_code", None) in _MLFLOW_IS_BUSY else None


def _database(error: BaseException) -> Diagnosis | None:
    """A lock, or a server of databases that is away. What SQLite says else, waiting does not mend."""
    databases = {"sqlite3.OperationalError", "sqlalchemy.exc.OperationalError", "psycopg2.OperationalError",
                 "psycopg.OperationalError", "sqlalchemy.exc.InterfaceError"}  # fmt: skip
    words = str(error).lower()
    is_away = any(text in words for text in (*_DATABASE_IS_BUSY, *_CONNECTION_LOST))
    return DATABASE if databases & _names(error) and is_away else None


def _memory(error: BaseException) -> Diagnosis | None:
    is_candidate = isinstance(error, RuntimeError | MemoryError)  # anything else need not load torch
    return MEMORY if is_candidate and is_out_of_memory(error) else None


_RULES = (_limit, _answer, _no_answer, _tracking, _database, _memory)

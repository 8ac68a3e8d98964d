"""What is tried again, how soon and how often, how long a stage may take, and what the log says about it."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff

from shoes.progress import duration
from tasks.diagnosis import TOO_LONG, Diagnosis, diagnose

_HOURS = 3600.0
LIMITS: dict[str, float] = {
    "verify-environment": 0.5 * _HOURS,  # each check has a limit of its own, a minute or less
    "fetch-model": 12 * _HOURS,  # Stable Diffusion and its judges, 5 GB, over a line of 1 Mbit/s
    "prepare-data": 12 * _HOURS,  # the whole catalogue, 44,000 photos, from the Hub
    "forecast": 2 * _HOURS,  # every way of training on a slow device
    "train-lora": 7 * 24 * _HOURS,  # without a window; with one it is the window's, see `training_limit`
    "choose-checkpoint": 12 * _HOURS,  # some hundred pictures
    "prove-export": 2 * _HOURS,  # four or five pictures
    "find-training": 0.5 * _HOURS,
    "evaluate": 48 * _HOURS,  # some hundred pictures of each arm, two minutes each without a GPU
    "promote": 2 * _HOURS,  # the adapter goes to a store that may be slow
    "report": 2 * _HOURS,
}
"""Seconds that each stage may take, many times what it does take: a stage that hangs ends, and a slow one never does.

At the limit Prefect raises an error in the stage. Python is interrupted at once, also when it sleeps or waits for a
server; a call into native code, such as one operation of PyTorch, ends first. What was saved stays.
"""
TRAINING_MARGIN = 2 * _HOURS
"""Seconds beyond the end of its window after which a training is taken for hung: it stops by itself at the end."""


def training_limit(seconds_to_deadline: float | None) -> float:
    """Seconds that a training may take which has to stop so many seconds from now; None: at no time."""
    if seconds_to_deadline is None:
        return LIMITS["train-lora"]
    return max(seconds_to_deadline, 0.0) + TRAINING_MARGIN


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition. Why there is another try, or none, goes into the run's log."""
    found = diagnose(state.result(raise_on_failure=False))
    log = get_run_logger()
    if found.is_transient:
        log.warning("%s", again(found, run.run_count, int(task.retries or 0) + 1))
    else:
        log.error("%s", final(found, task.timeout_seconds))
    return found.is_transient


def again(found: Diagnosis, tries: int, most: int) -> str:
    """The line before another try; Prefect's own, the next one, has the error and the seconds until then."""
    return f"{found.cause}. Waiting can mend that, so it is tried again by itself: try {tries + 1} of {most} comes next"


def final(found: Diagnosis, limit_seconds: float | None = None) -> str:
    """The line of a failure that is not tried again."""
    limit = f", {duration(limit_seconds)}" if found == TOO_LONG and limit_seconds else ""
    return (
        f"not tried again: {found.cause}{limit}, and waiting can't mend that. Please {found.advice}; then press Retry "
        "on the flow run's page, or start the same command again. What is done is kept."
    )


def stage(name: str) -> dict[str, Any]:
    """Options of a stage's task: its name, limit, and when it is tried again.

    The default cache policy is what the dashboard's Retry needs: it knows the flow run. Tries come about 10, 20 and
    40 seconds after one another, each a random part sooner or later.
    """
    return {
        "name": name,
        "retries": 3,
        "retry_delay_seconds": exponential_backoff(backoff_factor=10),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_transient,
        "timeout_seconds": LIMITS[name],
        "persist_result": True,
        "result_serializer": "json",
    }

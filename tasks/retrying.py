"""Which failures are worth another try: those that waiting can mend."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from shoes.errors import TransientError


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition."""
    del task, run
    return isinstance(state.result(raise_on_failure=False), TransientError)


RETRYING: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=10),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
    "persist_result": True,
    "result_serializer": "json",
}
"""Options of every task. The default cache policy is what the dashboard's Retry needs: it knows the flow run."""

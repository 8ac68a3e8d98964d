"""The work pool with its queues, and the deployments of prefect.yaml."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from shoes.errors import ShoesError
from shoes.servers.program import POOL

DEVICE_QUEUE = "device"
"""Runs that compute: one at a time, the others wait in their order (ENQUEUE)."""
SECONDS_TO_DEPLOY = 120


def make_pool(client: SyncPrefectClient) -> None:
    """The work pool and its queue for the device, made where they are missing.

    A pool that is there keeps what a person has changed about it; only the device's queue is limited again.
    """
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        about = "Flow runs as processes of this machine, with this project's Python"
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", description=about))
    try:
        queue = client.read_work_queue_by_name(DEVICE_QUEUE, work_pool_name=POOL)
    except ObjectNotFound:
        try:
            queue = client.create_work_queue(
                DEVICE_QUEUE,
                work_pool_name=POOL,
                description="What computes on the device: one run at a time, the others wait in their order",
            )
        except ObjectAlreadyExists:
            queue = client.read_work_queue_by_name(DEVICE_QUEUE, work_pool_name=POOL)
    if queue.concurrency_limit != 1:
        client.update_work_queue(queue.id, concurrency_limit=1)


def deploy(environment: Mapping[str, str], root: Path) -> None:
    """Register all deployments of prefect.yaml; those that are there are brought up to date.

    Raises:
        ShoesError: Prefect refused; with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=root,
        env={**environment, "NO_COLOR": "1", "COLUMNS": "200", "PATH": os.environ.get("PATH", "")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_DEPLOY,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-20:]
        raise ShoesError("The deployments of prefect.yaml can't be registered:\n" + "\n".join(said))

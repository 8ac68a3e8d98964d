"""The work pool with its queues, and the deployments of prefect.yaml."""

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

from flows.operations.runs import TAG
from shoes.errors import ShoesError
from shoes.servers.program import POOL
from shoes.storage import fingerprint, sha256

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


def deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Those of the project, as the server has them."""
    return client.read_deployments(deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])))


def project_version(root: Path) -> str:
    """Version of what deployments are made from: this project's, and a digest of its code, its place and Prefect."""
    sources = sorted(path for package in ("flows", "tasks", "shoes") for path in (root / package).rglob("[!.]*.py"))
    files = {str(path.relative_to(root)): sha256(path) for path in [root / "prefect.yaml", *sources]}
    return f"{version('shoes')}+{fingerprint(files, str(root), version('prefect'))[:12]}"


def is_up_to_date(client: SyncPrefectClient, root: Path) -> bool:
    """All deployments of prefect.yaml are registered, as the code is now.

    They are left alone then: what a person has changed about them in the dashboard stays.
    """
    wanted = {
        entry["name"] for entry in yaml.safe_load((root / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    }
    now = project_version(root)
    return wanted <= {deployment.name for deployment in deployments(client) if deployment.version == now}


class Deploying:
    """Registers all deployments of prefect.yaml; those that are there are brought up to date.

    It loads Prefect and the flows from the start, in a process of its own that waits for `finish` or `give_up`.
    """

    def __init__(self, environment: Mapping[str, str], root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.operations.deploying", "--no-prompt", "deploy", "--all"],
            cwd=root,
            env={**environment, "PROJECT_VERSION": project_version(root), "NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Register them now.

        Raises:
            ShoesError: Prefect refused, with what it said; or it took too long.
        """
        try:
            said, _ = self._process.communicate("now\n", timeout=SECONDS_TO_DEPLOY)
        except subprocess.TimeoutExpired as error:
            self.give_up()
            raise ShoesError(f"Prefect did not register the deployments within {SECONDS_TO_DEPLOY} s") from error
        if self._process.returncode:
            end = "\n".join(said.strip().splitlines()[-20:])
            raise ShoesError(f"The deployments of prefect.yaml can't be registered:\n{end}")

    def give_up(self) -> None:
        """End the process, whatever it does; one that has finished stays as it is."""
        self._process.kill()
        self._process.wait()

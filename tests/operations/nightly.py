"""The nightly deployments on a server, as prefect.yaml registers them, and what people do with them there."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from shoes.nights import Schedule

SAO_PAULO = ZoneInfo("America/Sao_Paulo")
KEPT = Schedule(starts="22:30", ends="06:00", timezone="America/Sao_Paulo")
EVENING = datetime(2026, 11, 24, 23, 10, tzinfo=SAO_PAULO)


def deploy(client: Any) -> None:
    """What `prefect deploy --all` does: deployments that are there are brought up to date."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    flow = client.create_flow_from_name("overnight")
    window = {"starts": "22:00", "ends": "07:00"}
    for name in ("overnight", "prototype", "demo"):
        recipe = {"name": name, **({} if name == "demo" else {"window": window})}
        made = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 22 * * *", timezone="UTC"), slug="nights")
        client.create_deployment(
            flow,
            name,
            parameters={"recipe": recipe},
            tags=["shoes", "night"],
            schedules=[made] if name == "overnight" else [],
        )


def found(client: Any) -> dict[str, Any]:
    return {d.name: d for d in client.read_deployments()}


def schedules(client: Any) -> dict[str, tuple[str, str, bool]]:
    """Cron, time zone and activity of each deployment that has a schedule."""
    return {
        name: (d.schedules[0].schedule.cron, d.schedules[0].schedule.timezone, d.schedules[0].active)
        for name, d in found(client).items()
        if d.schedules
    }


def windows(client: Any) -> dict[str, str | None]:
    hours = {name: d.parameters["recipe"].get("window") for name, d in found(client).items()}
    return {name: f"{h['starts']}-{h['ends']} {h.get('timezone')}" if h else None for name, h in hours.items()}


def switch(client: Any, name: str, *, active: bool) -> None:
    """What the switch beside a schedule in the dashboard does."""
    deployment = found(client)[name]
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=active)


def plan_runs(client: Any, name: str, since: datetime, until: datetime) -> list[Any]:
    """Let the server make the runs of a deployment's schedule between two moments."""
    deployment = found(client)[name]
    times = {"start_time": since.astimezone(UTC).isoformat(), "end_time": until.astimezone(UTC).isoformat()}
    client.request("POST", f"/deployments/{deployment.id}/schedule", json={**times, "min_runs": 50, "max_runs": 50})
    return runs_of(client, name)


def runs_of(client: Any, name: str) -> list[Any]:
    from prefect.client.schemas.sorting import FlowRunSort

    runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_ASC)
    return [run for run in runs if run.deployment_id == found(client)[name].id]

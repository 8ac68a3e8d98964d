"""docs/team: what its files promise, as far as it can be seen without a container engine."""

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from shoes.settings import PROJECT_ROOT

FOLDER = PROJECT_ROOT / "docs/team"
VARIABLE = re.compile(r"\$\{(\w+)(:\?|-)?")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def constraints() -> dict[str, str]:
    lines = [line.partition(";")[0] for line in (PROJECT_ROOT / "constraints.txt").read_text().splitlines()]
    return dict(line.lower().split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_ports_are_on_the_loopback(services: dict[str, Any]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(str(port).startswith("127.0.0.1:") for port in published)
    assert not [service for service in services.values() if "network_mode" in service]


def test_every_image_is_pinned_and_every_service_watched(services: dict[str, Any]) -> None:
    for name, service in services.items():
        _, _, tag = service["image"].partition(":")
        assert re.match(r"\d+\.\d+", tag), name
        assert "healthcheck" in service, name
        assert service["restart"] == "unless-stopped", name


def test_the_servers_are_those_that_the_project_is_tested_with(services: dict[str, Any]) -> None:
    pins = constraints()
    assert services["prefect"]["image"].startswith(f"prefecthq/prefect:{pins['prefect']}-")
    assert services["mlflow"]["image"].endswith(f":{pins['mlflow']}")
    installed = re.findall(r"([\w-]+)==([\w.]+)", (FOLDER / "Dockerfile.mlflow").read_text())
    assert {"mlflow", "psycopg2-binary", "boto3", "Flask-WTF"} == {name for name, _ in installed}
    assert {name: version for name, version in installed if pins.get(name.lower(), version) != version} == {}


def test_no_secret_has_a_default() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    example = dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / ".env.example").read_text(), re.MULTILINE))
    used = dict(VARIABLE.findall(text))
    assert used.keys() == example.keys()
    secret = {name for name in used if re.search("PASSWORD|AUTH|SECRET|KEY", name)}
    assert {name: example[name] for name in secret if example[name]} == {}
    may_be_empty = {name for name, rule in used.items() if rule != ":?"}
    assert may_be_empty == {"S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY"}, "the others stop the start"


def test_everything_that_is_mounted_or_copied_is_there(services: dict[str, Any]) -> None:
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    assert all((FOLDER / mount).is_file() for mount in mounts if mount.startswith("./"))
    made = (FOLDER / "databases.sql").read_text()
    wanted = re.findall(r"@postgres/(\w+)", (FOLDER / "compose.yaml").read_text())
    assert {f"CREATE DATABASE {name};" in made or name == "prefect" for name in wanted} == {True}
    assert Path(FOLDER / services["mlflow"]["build"]["dockerfile"]).is_file()


def test_everybody_may_write_into_the_teams_experiments() -> None:
    users = ConfigParser()
    users.read(FOLDER / "mlflow_users.ini")
    assert users["mlflow"]["default_permission"] == "EDIT"
    assert "admin_password" not in users["mlflow"]

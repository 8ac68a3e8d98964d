"""Two machines of a team, with Prefect and MLflow on a real PostgreSQL, and users with passwords."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx2 as httpx
import pytest

from shoes.settings import PROJECT_ROOT
from tests import asking
from tests.conftest import furnish
from tests.operations.team import Team, clean_environment, find_postgres, team

PROGRAMS = find_postgres()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix" or PROGRAMS is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(2400),  # a busy machine takes ten times as long
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::ResourceWarning"),
]
SECONDS_FOR_A_NIGHT = 900
EXPERIMENT = "casual-shoes-lora-demo"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    assert PROGRAMS is not None
    with team(tmp_path_factory.mktemp("team"), PROGRAMS) as found:
        for name in ("anna", "bea"):
            found.add_user(name)
        yield found


@dataclass
class Mac:
    """A machine of one person: its own folder and data, the team's servers, secrets in .env."""

    folder: Path
    user: str
    servers: Team
    flags: list[str]

    def give_password(self, password: str) -> None:
        secrets = {"MLFLOW_TRACKING_PASSWORD": password, "PREFECT_API_AUTH_STRING": self.servers.prefect_login}
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in secrets.items()))

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "out").open("wb") as out, (self.folder / "log").open("ab") as log:
            return self._start(out, log, *words)

    def _start(self, out: IO[bytes], log: IO[bytes], *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "flows", *words, "--recipe", "demo", "--json", *self.flags],
            cwd=self.folder,
            env={
                **clean_environment(),
                "PYTHONPATH": str(PROJECT_ROOT),
                "SHOES_DATA_DIR": str(self.folder / "data"),
                "SHOES_LOCK_DIR": str(self.folder / "locks"),
                "PREFECT_API_URL": self.servers.prefect,
                "MLFLOW_TRACKING_URI": self.servers.mlflow,
                "MLFLOW_TRACKING_USERNAME": self.user,
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
        )

    @property
    def said(self) -> dict[str, Any]:
        return json.loads((self.folder / "out").read_text())

    def trained(self) -> list[dict[str, Any]]:
        """The journal's events of training steps."""
        (journal,) = self.folder.glob("data/runs/*/journal.jsonl")
        return [json.loads(line) for line in journal.read_text().splitlines() if '"train/loss"' in line]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def macs(
    servers: Team, tmp_path_factory: pytest.TempPathFactory, small_data: Path, micro_flags: list[str]
) -> dict[str, Mac]:
    """Anna's night and Bea's training at the same time, done once; Bea's with a wrong password."""
    macs = {}
    for name in ("anna", "bea"):
        folder = tmp_path_factory.mktemp(name)
        furnish(folder / "data", small_data)
        # micro adapters are no better than the base: here a worse one may be champion, too
        macs[name] = Mac(folder, name, servers, [*micro_flags, "--gate.min_difference", "-200"])
    macs["anna"].give_password(servers.users["anna"])
    macs["bea"].give_password("wrong")
    with macs["anna"].start("run") as anna, macs["bea"].start("train", "--train.seed", "7") as bea:
        codes = [ended(anna), ended(bea)]
    assert codes == [0, 0], "\n".join(mac.log for mac in macs.values())
    return macs


def ended(process: "subprocess.Popen[bytes]") -> int:
    """Its exit code; one that hangs is ended."""
    try:
        return process.wait(SECONDS_FOR_A_NIGHT)
    finally:
        process.kill()


def client(servers: Team, monkeypatch: pytest.MonkeyPatch) -> Any:
    from shoes.tracking.mirror import connect

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", servers.admin[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", servers.admin[1])
    return connect(servers.mlflow)


def runs_of(servers: Team, found: Any) -> list[Any]:
    experiment = found.get_experiment_by_name(EXPERIMENT)
    assert experiment.artifact_location.startswith("mlflow-artifacts:/")
    return found.search_runs([experiment.experiment_id])


def flow_runs(servers: Team) -> list[dict[str, Any]]:
    user, _, password = servers.prefect_login.partition(":")
    return asking.post(f"{servers.prefect}/flow_runs/filter", {"sort": "START_TIME_ASC"}, auth=(user, password))


def test_a_night_on_the_teams_servers(macs: dict[str, Mac], servers: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    found = client(servers, monkeypatch)
    (run,) = runs_of(servers, found)
    assert macs["anna"].said["run_id"] == run.info.run_id
    assert run.info.status == "FINISHED"
    history = found.get_metric_history(run.info.run_id, "train/loss")
    assert sorted(point.step for point in history) == [1, 2, 3, 4]
    assert "eval/clip_score_minus_base_low" in run.data.metrics
    there = {file.path for file in found.list_artifacts(run.info.run_id)}
    assert {"adapter", "samples", "evaluation", "images", "report", "spec.toml", "environment.json"} <= there
    assert macs["anna"].said["promoted"]
    champion = found.get_model_version_by_alias(EXPERIMENT, "champion")
    assert champion.tags["adapter_sha256"] == macs["anna"].said["train"]["adapter_sha256"]
    assert [run["state_type"] for run in flow_runs(servers)] == ["COMPLETED"]


def test_a_wrong_password_is_one_clear_line_and_loses_no_step(
    macs: dict[str, Mac], servers: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoes.errors import TrackingRefused, TransientError
    from shoes.tracking.registry import Registry

    assert macs["bea"].log.count("refuses the password of bea: set MLFLOW_TRACKING_USERNAME") == 1
    assert [event["step"] for event in macs["bea"].trained()] == [1, 2, 3, 4]
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bea")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    with pytest.raises(TrackingRefused) as caught:
        Registry(servers.mlflow, EXPERIMENT).champion()
    assert not isinstance(caught.value, TransientError), "it is not tried again"


def test_with_the_right_one_all_is_there_and_the_others_champion_is_compared(
    macs: dict[str, Mac], servers: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    bea = macs["bea"]
    trained = bea.trained()
    bea.give_password(servers.users["bea"])
    with bea.start("run", "--train.seed", "7") as process:
        assert ended(process) == 0, bea.log
    assert bea.trained() == trained, "what was trained is not trained again"
    assert bea.log.count("trained 4 steps in") == 1
    found = client(servers, monkeypatch)
    run = found.get_run(bea.said["run_id"])
    steps = [point.step for point in found.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == [1, 2, 3, 4]
    assert [comparison["against"] for comparison in bea.said["evaluation"]["comparisons"]] == ["base", "champion"]
    assert len(runs_of(servers, found)) == 2
    champion = found.get_model_version_by_alias(EXPERIMENT, "champion")
    assert champion.tags["beat"] == "1"


def test_no_secret_is_kept(macs: dict[str, Mac], servers: Team) -> None:
    secrets = [*servers.users.values(), servers.admin[1], servers.prefect_login.partition(":")[2]]
    for mac in macs.values():
        files = [path for path in mac.folder.rglob("*") if path.is_file() and path.name != ".env"]
        assert any(path.name == "journal.mlflow.json" for path in files)
        for path in files:
            content = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in content], path


@pytest.mark.parametrize(("host", "status"), [("evil.example", 403), (None, 200)])
def test_mlflow_answers_to_its_own_name_only(servers: Team, host: str | None, status: int) -> None:
    headers = {"Host": host} if host else {}
    page = f"{servers.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx.get(page, auth=servers.admin, headers=headers, timeout=30).status_code == status


def test_the_check_knows_a_wrong_password(servers: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoes import recipes
    from shoes.environment.check import Situation
    from shoes.environment.checks import operations
    from shoes.settings import load_settings

    monkeypatch.setattr(operations, "require_import", lambda package: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.mlflow)
    monkeypatch.setenv("PREFECT_API_URL", servers.prefect)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")

    def found() -> list[str]:
        situation = Situation(recipes.load("demo"), load_settings(), "by hand")
        return [operations.prefect(situation).status, operations.mlflow(situation).status]

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "team:wrong")
    assert found() == ["ERROR", "WARN"]
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", servers.users["anna"])
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", servers.prefect_login)
    assert found() == ["OK", "OK"]

"""What people and machines read: the text, its summary and next steps, the JSON, the exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from shoes import recipes
from shoes.environment import kept, verify
from shoes.environment.checks import CHECKS
from shoes.environment.text import next_steps, rows, text
from shoes.reports import CheckResult, EnvironmentReport
from shoes.settings import load_settings

ELSEWHERE = Path("/nowhere/casual_shoes")


def shoes_check(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words])


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take no time."""
    few = tuple(c for c in CHECKS if c.name in ("Python", "Memory", "Prepared data set", "Data folder", "Disk"))
    monkeypatch.setitem(verify.__kwdefaults__, "checks", few)


def report_of(*checks: CheckResult) -> EnvironmentReport:
    ready = not any(check.critical and check.status == "ERROR" for check in checks)
    return EnvironmentReport(ready=ready, checks=checks, device="cpu", seconds=1.0)


def line(name: str, status: str, **fields: object) -> CheckResult:
    return CheckResult.model_validate({"name": name, "status": status, "critical": True, "detail": "found", **fields})


@pytest.mark.parametrize("width", [80, 110])
def test_the_text_fits_the_terminal(good_report: EnvironmentReport, width: int) -> None:
    shown = text(good_report, recipe_words="--recipe demo", dataset_dir=Path(), width=width)
    unbreakable = max(len(word) for word in shown.split()) + 8
    assert max(len(row) for row in shown.splitlines()) <= max(width, unbreakable)
    for check in good_report.checks:
        assert shown.count(f"{check.name}\n") >= 1, "each check with its details"
    assert f"Ready for training on {good_report.device}." in shown
    assert shown.rstrip().endswith("2. shoes run --recipe demo")


def test_everything_that_is_missing_is_one_command() -> None:
    lines = [
        line("PEFT (LoRA)", "ERROR", missing=("peft",)),
        line("Datasets and Pillow", "ERROR", missing=("datasets",)),
    ]
    shown = text(report_of(*lines), recipe_words="--recipe demo", dataset_dir=Path())
    assert "-m pip install peft datasets -c" in shown
    assert "Not ready for training on cpu: see PEFT (LoRA), Datasets and Pillow." in shown


@pytest.mark.parametrize(
    ("data", "model", "folder", "expected"),
    [
        ("OK", "OK", Path(), ["shoes forecast -r", "shoes run -r"]),
        ("ERROR", "OK", ELSEWHERE, ["shoes data import SOURCE -r", "shoes check -r"]),
        ("ERROR", "OK", Path(), ["shoes data verify -r", "shoes check -r"]),
        (
            "INFO",
            "INFO",
            ELSEWHERE,
            ["shoes data import -r", "shoes model fetch -r", "shoes forecast -r", "shoes run -r"],
        ),
    ],
)
def test_next_steps_fit_what_is_missing(data: str, model: str, folder: Path, expected: list[str]) -> None:
    report = report_of(line("Prepared data set", data), line("Model files", model))
    assert next_steps(report, "-r", folder) == expected


def test_what_no_command_mends_is_named() -> None:
    report = report_of(
        line("Disk", "ERROR"), line("Model files", "ERROR"), line("PEFT (LoRA)", "ERROR", missing=("peft",))
    )
    assert next_steps(report, "-r", Path()) == ["mend: Disk, Model files", "shoes check -r"]


def test_a_command_is_never_broken_between_lines() -> None:
    detail = "a model that is far too long to be named here and is not here yet: `shoes model fetch` downloads it"
    for width in range(60, 111):
        shown = text(report_of(line("Disk", "OK", detail=detail)), recipe_words="", dataset_dir=Path(), width=width)
        assert "`shoes model fetch`" in shown


def test_every_command_in_the_next_steps_is_there() -> None:
    report = report_of(line("Prepared data set", "INFO"), line("Model files", "INFO"))
    bad = report_of(line("Prepared data set", "ERROR"))
    steps = [step for r in (report, bad) for f in (Path(), ELSEWHERE) for step in next_steps(r, "--recipe demo", f)]
    for step in steps:
        if step.startswith("shoes "):
            words = [word for word in step.split()[1:] if word not in ("--recipe", "demo", "SOURCE")]
            assert CliRunner().invoke(main, [*words, "--help"]).exit_code == 0, step


def test_rows_are_a_table_of_texts(good_report: EnvironmentReport) -> None:
    table = rows(good_report)
    assert [row["check"] for row in table] == [check.name for check in good_report.checks]
    assert all(isinstance(cell, str) and "\n" not in cell for row in table for cell in row.values())


@pytest.mark.usefixtures("few_checks")
def test_json_has_exactly_the_fields_of_the_contract() -> None:
    result = shoes_check("--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found) == {"ready", "checks"}
    assert all(set(check) == {"name", "status", "critical", "detail", "fix"} for check in found["checks"])


@pytest.mark.usefixtures("few_checks")
def test_explain_gives_every_decision_with_its_reason() -> None:
    found = json.loads(shoes_check("--json", "--explain").stdout)["decisions"]
    assert {"device", "precision"} <= {decision["name"] for decision in found}
    assert all(decision["reason"] for decision in found)
    shown = shoes_check("--explain").stdout
    for decision in found:
        assert f"  {decision['name']} = {decision['value']}\n" in shown


@pytest.mark.usefixtures("few_checks")
def test_a_failed_critical_check_is_exit_code_1() -> None:
    result = shoes_check("--data.dataset_dir", "data/none")
    assert result.exit_code == 1
    assert "[ERROR] Prepared data set" in result.stdout
    assert "shoes data import SOURCE --recipe demo --data.dataset_dir data/none" in result.stdout


@pytest.mark.parametrize("words", [["--lang", "xx"], ["--train.rank", "0"]])
def test_bad_usage_is_exit_code_2(words: list[str]) -> None:
    assert shoes_check(*words).exit_code == 2


@pytest.mark.usefixtures("few_checks")
def test_colour_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[" not in shoes_check().stdout
    coloured = CliRunner().invoke(main, ["check"], color=True)
    assert "\x1b[32m" in coloured.stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in CliRunner().invoke(main, ["check"], color=True).stdout


HANGING = """
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from shoes.environment import checks, verify

def hang(situation):
    pool = ThreadPoolExecutor(1)
    pool.submit(time.sleep, 3600).result()

few = [c for c in checks.CHECKS if c.name in ("Python", "Data folder", "Disk")]
few = [replace(c, find=hang, limit_seconds=1) if c.name == "Data folder" else c for c in few]
verify.__kwdefaults__["checks"] = few
from flows.cli import main
main(["check", "--json"])
"""


def test_the_process_ends_although_a_check_hangs() -> None:
    """Its thread started another one, which Python by itself would wait for, an hour here."""
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, check=False, timeout=120)
    found = {check["name"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert (found, done.returncode) == ({"Python": "OK", "Data folder": "ERROR", "Disk": "OK"}, 1)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from shoes.environment.checks import operations

    monkeypatch.setattr(operations, "require_import", lambda package: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9/mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "me:s3cret")
    checks = [check for check in CHECKS if check.name in ("Prefect", "MLflow")]
    report = verify(recipes.load("demo"), load_settings(), checks=checks)
    shown = text(report, recipe_words="", dataset_dir=Path()) + report.model_dump_json()
    assert "s3cret" not in shown
    assert "http://127.0.0.1:9/mlflow does not answer" in shown
    assert {check.name: check.status for check in report.checks} == {"Prefect": "ERROR", "MLflow": "WARN"}


def test_the_stage_keeps_its_report_for_the_run(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoes import stages

    few = tuple(check for check in CHECKS if check.name in ("Python", "Prepared data set"))
    monkeypatch.setitem(verify.__kwdefaults__, "checks", few)
    report = stages.verify_environment(recipes.load("demo"))
    assert [check.status for check in report.checks] == ["OK", "INFO"]
    assert EnvironmentReport.model_validate(kept(load_settings())) == report
    file = own_world / "data/environment.json"
    assert list(file.parent.iterdir()) == [file]
    file.write_text("{half")
    assert kept(load_settings()) == {}


def test_the_report_is_in_the_environment_json_of_the_run(own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shoes import stages
    from shoes.reports import DataReport, ModelReport
    from shoes.tracking import recording
    from shoes.tracking.journal import Journal, read_events
    from shoes.training.run import make_job

    few = tuple(check for check in CHECKS if check.name in ("Python", "Disk"))
    monkeypatch.setitem(verify.__kwdefaults__, "checks", few)
    recipe = recipes.load("demo")
    report = stages.verify_environment(recipe)
    model = ModelReport(
        name="m", path=own_world, fingerprint="f", num_files=1, num_bytes=1, verified_against="itself", seconds=0
    )
    data = DataReport(path=own_world, fingerprint="d", resolution=64, splits=(), seconds=0)
    job = make_job(recipe, model, data, runs=own_world / "runs", cache=own_world / "cache")
    job.folder.mkdir(parents=True)
    with Journal(job.journal) as journal:
        recording.describe(journal, recipe, job, {})
    written = json.loads((job.folder / "environment.json").read_text())
    assert EnvironmentReport.model_validate(written["report"]) == report
    assert {"python", "platform", "torch", "prefect", "mlflow"} <= written.keys()
    assert "environment" in {event["id"] for event in read_events(job.journal)}

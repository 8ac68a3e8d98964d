"""The checks on this machine: right statuses, and one fault changes one line."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import pytest

from shoes import environment, recipes
from shoes.environment.check import Check, Finding
from shoes.environment.checks import CHECKS
from shoes.environment.verify import verify
from shoes.errors import NotReady
from shoes.reports import CheckResult, EnvironmentReport
from shoes.settings import load_settings

VOLATILE = {"Memory", "Disk"}
"""Lines whose numbers are of the moment."""


def lines(report: EnvironmentReport) -> dict[str, CheckResult]:
    return {check.name: check for check in report.checks}


def told(check: CheckResult) -> tuple[object, ...]:
    return check.status, check.critical, check.fix, "" if check.name in VOLATILE else check.detail


def different(report: EnvironmentReport, good: EnvironmentReport) -> set[str]:
    """Names of the lines that are not as in the good report, whatever folder the data are in."""
    before = lines(good)
    return {name for name, check in lines(report).items() if told(check) != told(before[name])}


def check_demo(checks: list[Check], **changes: str) -> EnvironmentReport:
    return verify(recipes.load("demo", changes), load_settings(), checks=checks)


@pytest.fixture
def same_place(good_report: EnvironmentReport, monkeypatch: pytest.MonkeyPatch) -> EnvironmentReport:
    """The good report, with this test's settings pointing at its data folder."""
    monkeypatch.setenv("SHOES_DATA_DIR", lines(good_report)["Data folder"].detail)
    return good_report


def test_a_machine_is_ready_on_the_device_that_it_has(good_report: EnvironmentReport) -> None:
    assert good_report.ready
    assert good_report.device in ("cpu", "mps", "cuda")
    assert [check.name for check in good_report.checks] == [check.name for check in CHECKS]
    found = lines(good_report)
    assert {name for name, check in found.items() if check.status == "ERROR"} == set()
    assert found["Optional packages"].status == "INFO"
    assert "tensor test passed" in found["PyTorch"].detail
    assert "train 280, val 60, test 60 images of 64 px" in found["Prepared data set"].detail
    assert "rank 8 with 128 trainable parameters" in found["PEFT (LoRA)"].detail
    for name in ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel"):
        assert name in found["Stable Diffusion components"].detail


def test_every_check_is_timed(good_report: EnvironmentReport) -> None:
    assert lines(good_report)["Diffusers and Transformers"].seconds > 0
    assert all(check.limit_seconds > 0 for check in CHECKS)


HIDDEN = {
    "peft": ("PEFT (LoRA)", set()),
    "accelerate": ("Accelerate", set()),
    "datasets": ("Datasets and Pillow", set()),
    "PIL": ("Datasets and Pillow", {"Prepared data set"}),
    "diffusers": ("Diffusers and Transformers", {"Stable Diffusion components"}),
    "transformers": ("Diffusers and Transformers", {"Stable Diffusion components"}),
}
"""Package, the line that is an ERROR without it, and those that can't say anything then."""


@pytest.mark.parametrize("package", HIDDEN)
def test_a_hidden_package_changes_its_line(
    same_place: EnvironmentReport, quick_checks: list[Check], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    line, dependent = HIDDEN[package]
    monkeypatch.setitem(sys.modules, package, None)
    report = check_demo(quick_checks)
    assert line in different(report, same_place) <= {line, *dependent}
    assert not report.ready
    found = lines(report)[line]
    assert found.status == "ERROR"
    assert "is not installed" in found.detail
    assert f"pip install {found.missing[0]}" in found.fix
    assert all(lines(report)[name].status in ("OK", "INFO") for name in dependent)


@pytest.mark.parametrize("package", ["prefect", "mlflow"])
def test_a_hidden_service_changes_its_line(
    same_place: EnvironmentReport, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    from shoes.environment.checks import operations

    monkeypatch.setitem(sys.modules, package, None)
    # the other one is looked for, and not started: it is another test's
    monkeypatch.setattr(operations.subprocess, "run", lambda *args, **kwargs: type("Done", (), {"returncode": 0}))
    checks = [check for check in CHECKS if check.name in ("Prefect", "MLflow", "Disk")]
    report = check_demo(checks)
    assert [name.lower() for name in different(report, same_place)] == [package]
    assert lines(report)[{"prefect": "Prefect", "mlflow": "MLflow"}[package]].missing == (package,)


def test_a_service_is_imported_elsewhere_and_only_where_it_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shoes.environment.checks.operations import require_import

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "broken_service.py").write_text("raise OSError('its library is of another system')")
    with pytest.raises(RuntimeError, match=r"^OSError: its library is of another system$"):
        require_import("broken_service")
    trace = tmp_path / "imported"
    (tmp_path / "good_service.py").write_text(f"with open({str(trace)!r}, 'a') as file:\n    file.write('once ')")
    require_import("good_service")
    assert "good_service" not in sys.modules
    assert trace.read_text() == "once "
    monkeypatch.setitem(sys.modules, "good_service", importlib.import_module("good_service"))
    require_import("good_service")
    assert trace.read_text() == "once once ", "what is loaded is not tried again"


def test_without_torch_nothing_that_needs_it_is_blamed(
    quick_checks: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    report = check_demo(quick_checks)
    assert [name for name, check in lines(report).items() if check.status == "ERROR"] == ["PyTorch"]
    assert lines(report)["PEFT (LoRA)"].detail == "can't be tried without PyTorch"
    assert report.device == "auto"


def test_a_damaged_data_set_changes_its_line(
    same_place: EnvironmentReport, quick_checks: list[Check], damaged_data: Path, small_data: Path
) -> None:
    good = check_demo(quick_checks, **{"data.dataset_dir": str(small_data)})
    report = check_demo(quick_checks, **{"data.dataset_dir": str(damaged_data)})
    assert different(report, good) == {"Prepared data set"}
    assert different(good, same_place) == {"Prepared data set"}, "its own counts"
    found = lines(report)["Prepared data set"]
    assert (found.status, found.critical, report.ready) == ("ERROR", True, False)
    assert "val/images" in found.detail


def test_a_damaged_model_changes_its_line(
    same_place: EnvironmentReport, quick_checks: list[Check], own_world: Path
) -> None:
    import shutil

    from shoes.settings import PROJECT_ROOT

    model = own_world / "model"
    shutil.copytree(PROJECT_ROOT / "data/demo/model", model)
    config = model / "vae/config.json"
    config.write_bytes(config.read_bytes() + b" ")
    report = check_demo(quick_checks, **{"model.pretrained_model_name_or_path": str(model)})
    assert different(report, same_place) == {"Model files"}
    found = lines(report)["Model files"]
    assert (found.status, report.ready) == ("ERROR", False)
    assert str(config) in found.detail


def test_a_check_that_hangs_changes_its_line(same_place: EnvironmentReport, changed) -> None:
    release = Event()
    report = check_demo(changed("Accelerate", find=lambda situation: release.wait(), limit_seconds=1))
    assert different(report, same_place) == {"Accelerate"}
    found = lines(report)["Accelerate"]
    assert (found.status, found.detail) == ("ERROR", "did not answer within 1 s")
    assert environment.is_waiting()
    release.set()
    while environment.is_waiting():  # a later test of the command line must not find it
        time.sleep(0.01)


def test_a_check_that_raises_is_one_line(same_place: EnvironmentReport, changed) -> None:
    def explode(situation: object) -> Finding:
        raise OSError("the driver\nis gone")

    report = check_demo(changed("Memory", find=explode))
    assert different(report, same_place) == {"Memory"}
    found = lines(report)["Memory"]
    assert (found.status, found.detail) == ("WARN", "failed: OSError: the driver is gone")
    assert report.ready, "memory is no reason not to try"


def test_a_device_that_is_not_here_is_an_error(same_place: EnvironmentReport, quick_checks: list[Check]) -> None:
    wanted = "mps" if sys.platform != "darwin" else "cuda"
    report = check_demo(quick_checks, **{"train.device": wanted})
    found = lines(report)["PyTorch"]
    assert (found.status, report.ready, report.device) == ("ERROR", False, wanted)
    assert wanted in found.detail
    assert "--train.device auto" in found.fix


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"data.dataset_dir": "data/none"}, "ERROR", "names no source"),
        ({"data.dataset_dir": "data/none", "data.source": "/photos"}, "INFO", "made from /photos"),
        ({"train.train_data_dir": "/no/photos"}, "ERROR", "/no/photos"),
    ],
)
def test_a_data_set_that_is_not_here(
    quick_checks: list[Check], changes: dict[str, str], status: str, words: str
) -> None:
    checks = [check for check in quick_checks if check.name == "Prepared data set"]
    report = check_demo(checks, **changes)
    assert (report.checks[0].status, report.ready) == (status, status == "INFO")
    assert words in report.checks[0].detail


def test_a_model_of_the_hub_that_is_not_here_can_be_made(quick_checks: list[Check]) -> None:
    checks = [check for check in quick_checks if check.name in ("Model files", "Disk")]
    report = verify(recipes.load("overnight"), load_settings(), checks=checks)
    assert lines(report)["Model files"].status == "INFO"
    assert "shoes model fetch" in lines(report)["Model files"].detail
    assert "model download 4.48 GB" in lines(report)["Disk"].detail


def test_in_the_flow_what_is_made_later_never_blocks(quick_checks: list[Check], damaged_data: Path) -> None:
    changes = {"data.dataset_dir": str(damaged_data), "model.pretrained_model_name_or_path": "data/nothing"}
    checks = [check for check in quick_checks if check.name in ("Prepared data set", "Model files")]
    report = verify(recipes.load("demo", changes), load_settings(), "in the flow", checks=checks)
    assert [(check.status, check.critical) for check in report.checks] == [("INFO", False)] * 2
    assert environment.require_ready(report) is report


def test_not_ready_names_every_critical_failure(changed) -> None:
    def bad(situation: object) -> Finding:
        return Finding("ERROR", "broken", "mend it")

    checks = [c for c in changed("Disk", find=bad) if c.name in ("Disk", "Memory", "Data folder")]
    with pytest.raises(NotReady, match="Disk: broken") as caught:
        environment.require_ready(check_demo(checks))
    assert len(caught.value.problems) == 1


FRESH = """
import json
import subprocess
import sys
sys.modules[{package!r}] = None
from flows.cli import main
main(["check", "--json"])
"""


@pytest.mark.parametrize("package", ["accelerate", pytest.param("diffusers", marks=pytest.mark.slow)])
def test_in_a_fresh_process_one_line_takes_the_blame(package: str) -> None:
    """There the other libraries are not loaded yet, and stumble over the missing one in their own ways."""
    program = FRESH.format(package=package)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert [name for name, check in found.items() if check["status"] == "ERROR"] == [HIDDEN[package][0]]
    assert found["MLflow"]["status"] == found["Datasets and Pillow"]["status"] == "OK"

"""What is decided from numbers and texts: memory, disk, power, versions, addresses. Nothing here is measured."""

import http.server
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from shoes import recipes
from shoes.environment.addresses import answers, without_secrets
from shoes.environment.checks import operations
from shoes.environment.checks.machine import python_finding
from shoes.environment.checks.storage import disk_finding
from shoes.environment.compatibility import conflicts
from shoes.environment.disk import is_writable
from shoes.environment.disk_need import (
    Part,
    Photos,
    disk_need,
    expected_photos,
    geometry_of,
    rank_one_parameters,
    sd15_geometry,
)
from shoes.environment.packages import install_command
from shoes.environment.power import Power, parse_pmset, power_finding, read_power, waking
from shoes.environment.recommendation import memory_finding, recommend
from shoes.evaluation.sample_size import MAX_IMAGES_PER_CAPTION
from shoes.settings import PROJECT_ROOT
from shoes.spec import TrainSpec

GIGABYTE = 1024**3


@pytest.mark.parametrize(
    ("gigabytes", "status", "batch", "accumulation"),
    [(3, "WARN", 1, 16), (7.9, "WARN", 1, 16), (8, "INFO", 2, 8), (16, "INFO", 2, 8), (16.1, "OK", 4, 4)],
)
def test_memory_is_judged_by_three_thresholds(gigabytes: float, status: str, batch: int, accumulation: int) -> None:
    spec = TrainSpec()
    finding = memory_finding(int(gigabytes * GIGABYTE), 32 * GIGABYTE, spec)
    assert finding.status == status
    assert bool(finding.fix) == (status == "WARN")
    assert f"train_batch_size = {batch}, gradient_accumulation_steps = {accumulation}" in finding.detail
    assert batch * accumulation == spec.effective_batch_size


def test_recommended_fields_are_fields_of_a_recipe() -> None:
    advice = recommend(10 * GIGABYTE, 16)
    assert TrainSpec.model_validate(advice.__dict__).train_batch_size == 2
    assert recommend(64 * GIGABYTE, 6).train_batch_size == 3, "the effective batch is kept whole"


def test_on_cuda_the_gpu_decides_the_configuration() -> None:
    finding = memory_finding(64 * GIGABYTE, 64 * GIGABYTE, TrainSpec(), graphics_bytes=6 * GIGABYTE)
    assert finding.status == "OK"
    assert "train_batch_size = 1" in finding.detail


@pytest.mark.parametrize(
    ("version", "system", "processor", "status"),
    [
        ((3, 10), "Linux", "x86_64", "ERROR"),
        ((3, 11), "Linux", "x86_64", "OK"),
        ((3, 12), "Darwin", "arm64", "OK"),
        ((3, 12), "Darwin", "x86_64", "WARN"),
    ],
)
def test_python_is_new_enough_and_made_for_the_chip(
    version: tuple[int, int], system: str, processor: str, status: str
) -> None:
    assert python_finding(version, system, processor, "detail").status == status


def sd15_need(**changes: str) -> dict[str, int]:
    recipe = recipes.load("overnight", changes)
    geometry = sd15_geometry(recipe.train.lora_target_modules)
    return {part.name: part.num_bytes for part in disk_need(recipe, geometry, expected_photos(recipe), 2_000_000_000)}


def test_every_part_of_the_disk_grows_with_its_field() -> None:
    need = sd15_need()
    assert need["model download"] == 2_000_000_000
    assert sd15_need(**{"train.rank": "16"})["checkpoints"] == 2 * need["checkpoints"]
    assert sd15_need(**{"train.checkpoints_total_limit": "5"})["checkpoints"] == 2 * need["checkpoints"]
    assert sd15_need(**{"train.save_steps": "100"})["candidates"] > need["candidates"]
    assert sd15_need(**{"train.resolution": "256"})["latent cache"] < need["latent cache"]
    assert sd15_need(**{"eval.images_per_caption": "8"})["drawn pictures"] > need["drawn pictures"]
    assert sd15_need(**{"data.max_images": "300"})["data set"] == need["data set"] / 10


def test_where_the_sample_is_still_to_be_planned_the_largest_one_has_room() -> None:
    every_photo = {"eval.num_images": "none", "eval.half_width": "none"}
    most = sd15_need(**every_photo, **{"eval.images_per_caption": str(MAX_IMAGES_PER_CAPTION)})
    assert sd15_need(**{"eval.half_width": "0.65"})["drawn pictures"] == most["drawn pictures"]


def test_sizes_of_stable_diffusion_are_the_known_ones() -> None:
    """An adapter of rank 8 is 1.6 M parameters, a checkpoint some 20 MB; the moments of 1,991 images 0.26 GB."""
    geometry = sd15_geometry(TrainSpec().lora_target_modules)
    assert geometry.adapter_parameters * 8 == 1_594_368
    assert sd15_need()["checkpoints"] / 3 == pytest.approx(19.1e6, rel=0.01)
    photos = Photos(train=1991, val=0, test=0, captions=0, are_here=True)
    parts = disk_need(recipes.load("overnight"), geometry, photos, 0)
    assert {p.name: p.num_bytes for p in parts}["latent cache"] == pytest.approx(0.26e9, rel=0.02)
    assert "data set" not in {p.name for p in parts}


def test_geometry_is_read_from_the_model() -> None:
    import torch

    from shoes.model.load import load_unet
    from shoes.training.lora import add_adapter

    spec = recipes.load("demo").train
    model = PROJECT_ROOT / "data/demo/model"
    geometry = geometry_of(model, spec.lora_target_modules)
    unet = load_unet(model, device="cpu", dtype=torch.float32)
    add_adapter(unet, spec)
    trainable = sum(parameter.numel() for parameter in unet.parameters() if parameter.requires_grad)
    assert geometry.adapter_parameters * spec.rank == trainable
    assert (geometry.latent_channels, geometry.downscale, geometry.text_tokens) == (4, 4, 48)


def test_a_convolution_counts_with_its_kernel() -> None:
    shapes = {"mid.conv.weight": (8, 4, 3, 3), "mid.conv.bias": (8,), "mid.other.weight": (5, 5)}
    assert rank_one_parameters(shapes, ["conv"]) == 4 * 9 + 8


@pytest.mark.parametrize(("free", "status"), [(99, "ERROR"), (100, "WARN"), (109, "WARN"), (111, "OK")])
def test_free_space_is_compared_with_the_sum(free: int, status: str) -> None:
    parts = (Part("latent cache", 60 * GIGABYTE), Part("candidates", 40 * GIGABYTE))
    finding = disk_finding(free * GIGABYTE, parts, "/data")
    assert finding.status == status
    assert "latent cache 60.00 GB, candidates 40.00 GB" in finding.detail


UPS = "Now drawing from 'UPS Power'\n -Back-UPS ES 700 (id=1)\t100%; discharging\n"
AC, BATTERY = "Now drawing from 'AC Power'\n", "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t87%\n"
PMSET = """System-wide power settings:
 SleepDisabled\t\t{disabled}
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                {sleep}
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         10
 tcpkeepalive         1
 lowpowermode         {low}
 womp                 1
"""


@pytest.mark.parametrize(
    ("sleep", "low", "disabled", "source", "expected"),
    [
        ("1", 0, 0, AC, Power(1, "", False, False)),
        ("0", 0, 0, AC, Power(0, "", False, False)),
        ("1 (sleep prevented by powerd, caffeinate)", 0, 0, AC, Power(1, "caffeinate", False, False)),
        ("1 (sleep prevented by powerd)", 0, 0, AC, Power(1, "", False, False)),
        ("1 (sleep prevented by coreaudiod)", 0, 0, AC, Power(1, "", False, False, False, "coreaudiod")),
        (
            "1 (sleep prevented by Google Chrome Helper (Renderer), Amphetamine, sharingd)",
            *(0, 0, AC),
            Power(1, "Amphetamine", False, False, False, "Google Chrome Helper (Renderer), sharingd"),
        ),
        ("1", 0, 0, UPS, Power(1, "", False, False, on_ups=True)),
        ("10", 1, 0, BATTERY, Power(10, "", True, True)),
        ("10", 0, 1, AC, Power(0, "", False, False)),
    ],
)
def test_pmset_is_understood(sleep: str, low: int, disabled: int, source: str, expected: Power) -> None:
    assert parse_pmset(PMSET.format(sleep=sleep, low=low, disabled=disabled), source) == expected


@pytest.mark.parametrize(("mode", "is_low"), [(0, False), (1, True), (2, False)])
def test_a_mac_with_a_high_power_mode_says_low_power_otherwise(mode: int, is_low: bool) -> None:
    settings = PMSET.format(sleep="0", low=mode, disabled=0).replace(" lowpowermode ", " powermode ")
    found = parse_pmset(settings, AC)
    assert (found.is_low_power, found.has_power_modes) == (is_low, True)
    assert ("sudo pmset -a powermode 0" in power_finding(found).fix) is is_low


def test_what_holds_sleep_off_for_a_while_is_no_reason_to_be_at_ease() -> None:
    for name in ("coreaudiod", "sharingd", "bluetoothd", "backupd", "Google Chrome Helper (Renderer)"):
        found = power_finding(Power(1, "", False, False, False, name))
        assert found.status == "WARN"
        assert f"{name} only holds that off for now" in found.detail
    away = power_finding(Power(0, "", False, False, on_ups=True))
    assert (away.status, away.detail) == ("WARN", "the mains power is away, and it runs on its UPS")


@pytest.mark.skipif(os.name != "posix", reason="the tool is a shell script here")
def test_a_mac_is_asked_by_its_own_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "pmset"
    settings = PMSET.format(sleep="10", low=0, disabled=0)
    tool.write_text(f"#!/bin/sh\n[ \"$*\" = '-g batt' ] && echo \"{BATTERY}\" && exit\ncat <<'END'\n{settings}END\n")
    tool.chmod(0o755)
    monkeypatch.setattr("shoes.environment.power.PMSET", str(tool))
    assert read_power() is None, "this is no Mac"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert read_power() == Power(10, "", False, True)


@pytest.mark.parametrize(
    ("power", "zone", "said"),
    [
        (None, "UTC", ""),
        (Power(0, "", False, False), "UTC", ""),
        (Power(1, "", False, False), "UTC", "after 1 idle minute: a night that runs keeps it awake"),
        (Power(10, "", False, False), "UTC", "sudo pmset repeat wakeorpoweron MTWRFSU 21:58:00"),
        (Power(1, "", False, False), "UTC", "sudo pmset repeat wakeorpoweron MTWRFSU 21:59:30"),
        (Power(1, "", False, False), "UTC", "which then keeps it awake until the night has begun"),
        (Power(10, "caffeinate", False, False), "Asia/Kolkata", "sudo pmset repeat wakeorpoweron MTWRFSU 03:28:00"),
    ],
)
def test_a_mac_that_sleeps_wakes_up_before_its_night(
    power: Power | None, zone: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own time zone, whatever the schedule's is."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = waking(power, datetime(2026, 11, 26, 19, 0, tzinfo=ZoneInfo("America/Sao_Paulo")))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert said in "\n".join(found)
    assert bool(found) is bool(said)


def test_a_mac_that_sleeps_is_told_what_that_means() -> None:
    found = power_finding(Power(1, "", False, False))
    assert "a scheduled one does not begin in its sleep" in found.detail
    assert "sudo pmset -c sleep 0" in found.fix
    assert power_finding(Power(0, "", False, False)).status == "OK"
    assert power_finding(Power(5, "caffeinate", False, False)).status == "OK"
    everything = power_finding(Power(5, "", True, True))
    assert (everything.status, everything.detail.count(";")) == ("WARN", 2)


@pytest.mark.parametrize(
    ("versions", "bad"),
    [
        ({"prefect": "3.8.8", "fastapi": "0.150.0", "sqlalchemy": "2.0.58"}, []),
        ({"prefect": "3.8.8", "fastapi": "0.151.0", "sqlalchemy": "2.0.58"}, ["fastapi"]),
        ({"prefect": "3.8.8", "fastapi": "0.150.0", "sqlalchemy": "2.1.0b1"}, ["sqlalchemy"]),
        ({"prefect": "3.8.1", "fastapi": "0.160", "sqlalchemy": "2.1.3"}, ["fastapi", "sqlalchemy"]),
        ({"prefect": "3.9.0", "fastapi": "0.160", "sqlalchemy": "2.1"}, []),
    ],
)
def test_versions_that_do_not_go_together_are_known(versions: dict[str, str], bad: list[str]) -> None:
    assert [conflict.other for conflict in conflicts(versions)] == bad


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@mlflow.example:8443/team?token=secret#secret", "https://mlflow.example:8443/team"),
        ("http://[::1]:5000/api", "http://[::1]:5000/api"),
        ("postgresql+psycopg2://me:secret@db/runs", "postgresql+psycopg2://db/runs"),
        ("http://me:secret@host:notaport/", "http://…"),
    ],
)
def test_no_address_shows_a_secret(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """A server on this machine, and the codes that it answers with."""
    codes = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes[-1])
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{running.server_port}", codes
        running.shutdown()


def test_a_server_that_answers_is_there(server: tuple[str, list[int]]) -> None:
    address, codes = server
    for code, is_there in ((200, True), (401, True), (404, True), (503, False)):
        codes.append(code)
        assert answers(address) is is_there
    assert not answers("http://127.0.0.1:9/")


def test_a_database_has_to_take_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mlflow.db"
    assert operations._database(file, "").status == "OK", "not there yet"
    assert not file.exists()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
    connection.close()
    before = file.read_bytes()
    assert operations._database(file, "").status == "OK"
    assert file.read_bytes() == before
    file.write_bytes(b"no database at all, but long enough to be looked at" * 30)
    assert operations._database(file, "").status == "ERROR"


def test_a_locked_database_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mlflow.db"
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("CREATE TABLE runs (id TEXT)")
    holder.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(operations, "LOCK_SECONDS", 0.1)
    assert operations._database(file, "").status == "WARN"
    holder.close()


def test_a_file_in_the_way_can_not_be_written_to(tmp_path: Path) -> None:
    assert is_writable(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()
    assert not is_writable(Path("/proc/nothing"))


def test_the_command_installs_everything_at_once(tmp_path: Path) -> None:
    with_pins = install_command(["peft", "datasets", "peft"])
    assert with_pins.endswith(f"-m pip install peft datasets -c {PROJECT_ROOT / 'constraints.txt'}")
    assert "'peft>=0.21.2,<0.22'" in install_command(["peft"], root=tmp_path).replace(
        "peft<0.22,>=0.21.2", "peft>=0.21.2,<0.22"
    )


def test_a_wrong_device_is_found_by_its_values() -> None:
    import torch

    from shoes.environment.checks.components import TOLERANCE, device_error

    class Wrong(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor, self.calls = factor, 0

        def forward(self, sample: torch.Tensor, *, return_dict: bool) -> tuple[torch.Tensor]:
            self.calls += 1
            return (sample if self.calls == 1 else sample * self.factor,)

    given = {"sample": torch.ones(1, 3)}
    assert device_error(Wrong(1.0), given, "cpu") == 0
    assert device_error(Wrong(1.1), given, "cpu") > TOLERANCE
    assert not device_error(Wrong(float("nan")), given, "cpu") < TOLERANCE
    assert not device_error(Wrong(float("inf")), given, "cpu") < TOLERANCE

"""What the kit reckons: operations, peaks, the table, and which packages it brings."""

import math
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.device import bootstrap, flops, peaks, table
from benchmarks.device.parts import speed
from benchmarks.device.place import Options, Place
from benchmarks.device.rows import Row
from shoes.settings import PROJECT_ROOT
from shoes.spec import TrainSpec

DEMO = PROJECT_ROOT / "data/demo/model"
PUBLISHED = PROJECT_ROOT / "shoes/model/published/stable-diffusion-v1-5"


def test_operations_of_a_step_are_those_that_pytorch_counts() -> None:
    import torch
    from diffusers import UNet2DConditionModel
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from shoes.model import configs
    from shoes.training.lora import add_adapter

    spec, sizes = TrainSpec(resolution=64), configs.geometry(DEMO)
    found = flops.step_flops(DEMO, spec)
    unet = UNet2DConditionModel.from_pretrained(DEMO / "unet").requires_grad_(False)
    add_adapter(unet, spec)
    latents, text = torch.randn(1, 4, 16, 16), torch.randn(1, sizes.text_tokens, sizes.text_width)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        output = unet(latents, torch.tensor([5]), text).sample
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    assert found.forward == pytest.approx(forward.get_total_flops(), rel=0.001)
    assert found.backward == pytest.approx(backward.get_total_flops(), rel=0.04)


def test_a_step_of_stable_diffusion_needs_what_is_known() -> None:
    assert flops.step_flops(PUBLISHED, TrainSpec()).step == pytest.approx(1.73e12, rel=0.01)


@pytest.mark.parametrize(
    ("device", "name", "precision", "cores", "tflops"),
    [
        ("cuda", "NVIDIA H100 80GB HBM3", "bf16", None, 989.0),
        ("cuda", "NVIDIA H100 PCIe", "bf16", None, 756.0),
        ("cuda", "NVIDIA H200", "fp16", None, 989.0),
        ("cuda", "NVIDIA A100-SXM4-80GB", "bf16", None, 312.0),
        ("cuda", "NVIDIA L4", "bf16", None, 121.0),
        ("cuda", "NVIDIA L40S", "bf16", None, 362.0),
        ("cuda", "NVIDIA GeForce RTX 4090", "bf16", None, 165.2),
        ("cuda", "NVIDIA GeForce RTX 4090 Laptop GPU", "bf16", None, None),
        ("cuda", "NVIDIA H100 80GB HBM3", "no", None, None),
        ("cuda", "Some other GPU", "bf16", None, None),
        ("mps", "Apple M1", "no", 8, 2.6),
        ("mps", "Apple M1 Max", "no", 32, 10.5),
        ("mps", "Apple M2 Max", "no", 38, 13.6),
        ("mps", "Apple M2 Max", "fp16", 30, 10.7),
        ("mps", "Apple M2 Max", "bf16", 38, None),
        ("mps", "Apple M4", "bf16", 10, 4.0),
        ("mps", "Apple M5", "no", 10, None),
        ("mps", "Apple M2 Max", "no", None, None),
        ("cpu", "x86_64 processor", "no", None, None),
    ],
)
def test_a_peak_is_that_of_the_maker_or_there_is_none_and_a_reason(
    device: str, name: str, precision: str, cores: int | None, tflops: float | None
) -> None:
    found = peaks.peak(device, name, precision, gpu_cores=cores)
    assert found.tflops == (None if tflops is None else pytest.approx(tflops, rel=0.02))
    assert found.reason
    assert (tflops is None) == ("no model FLOP utilisation" in found.reason)


def test_the_table_is_100_columns_wide_and_loses_no_word() -> None:
    row = Row("speed", "what was measured " * 4, "a figure that is far too long", "and a note of its own " * 9)
    lines = list(table.lines(row))
    assert max(map(len, lines)) <= 100
    assert sorted(" ".join(lines).split()) == sorted(f"{row.what} {row.figure} {row.note}".split())


class Full:
    """An arm whose device is full above a micro-batch of 1."""

    def __init__(self) -> None:
        self.size = self.forgotten = 0

    def resize(self, images: int, micro_batch: int) -> None:
        self.size = micro_batch

    def forget(self) -> None:
        self.forgotten += 1

    def step(self) -> float:
        import torch

        if self.size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.5


class Broken(Full):
    def step(self) -> float:
        return math.nan


def bench(tmp_path: Path, **arms: Any) -> speed.Bench:
    facts: Any = SimpleNamespace(total_memory_bytes=1, device_memory_bytes=0)
    place = Place(Options(tmp_path, smoke=True), math.inf, {"facts": facts})
    made = speed.Bench(place, *[SimpleNamespace(device="cpu")] * 2, peaks.Peak(None, ""), 1.0)  # type: ignore[arg-type]
    made.arms, made.held = dict(arms), dict.fromkeys(arms, 0)
    return made


def test_what_does_not_fit_is_a_row_and_the_other_arms_are_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "device", "cpu")
    full, broken, well = Full(), Broken(), Full()
    rows = list(speed._micro_batch(bench(tmp_path, bare=full, usual=broken), 2))
    expected = [("bare, micro-batch 2", "does not fit"), ("usual, micro-batch 2", "failed")]
    assert [(row.what, row.status) for row in rows] == expected
    assert full.forgotten
    rows = list(speed._micro_batch(bench(tmp_path, bare=well, usual=broken), 1))
    assert [(row.what, row.status) for row in rows] == [
        ("usual, micro-batch 1", "failed"),
        ("micro-batch 1: bare", "done"),
        ("micro-batch 1: peak memory", "done"),
    ]


def test_the_kits_versions_are_those_of_the_project() -> None:
    lines = (PROJECT_ROOT / "constraints.txt").read_text().lower().splitlines()
    pins = [line.partition(";")[0].strip() for line in lines if not line.startswith("#")]
    project = dict(pin.replace("_", "-").split("==") for pin in pins if "==" in pin)
    pinned = {name: version for name, how, version in bootstrap.requirements() if how == "=="}
    assert {"torch", "prefect", "mlflow"}.isdisjoint(pinned)
    assert pinned == {name: project[name.lower().replace("_", "-")] for name in pinned}
    assert not bootstrap.lacking(bootstrap.installed)


def test_a_python_is_refused_with_the_reason() -> None:
    assert bootstrap.python_fault((3, 12), "2.8.0+cu126") == ""
    assert bootstrap.python_fault((3, 11), "2.14.1") == ""
    assert "3.11 or newer" in bootstrap.python_fault((3, 10), "2.13.0")
    assert "no PyTorch" in bootstrap.python_fault((3, 12), None)
    assert "2.8 or later" in bootstrap.python_fault((3, 12), "2.7.1+cu118")


def test_older_packages_beside_a_pytorch_are_left_or_named() -> None:
    there = {"numpy": "1.26.4", "pillow": "9.5.0", "transformers": "4.50.0"}
    lacking = bootstrap.lacking(there.get)
    assert "numpy" not in lacking
    assert {"pillow", "transformers", "peft"} <= set(lacking)


def test_pip_never_looks_at_an_index_where_wheels_are_there_nor_at_dependencies() -> None:
    assert "--no-index" not in bootstrap.pip_arguments(None)
    arguments = bootstrap.pip_arguments(Path("wheels"))
    assert {"--no-index", "--no-deps", "wheels"} <= set(arguments)


def test_wheels_travel_in_one_archive_and_hold_what_they_held(tmp_path: Path) -> None:
    wheel = tmp_path / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("some/__init__.py", "x = 1\n" * 1000)
    bootstrap.archive([wheel], tmp_path / "a.tar.xz")
    with tarfile.open(tmp_path / "a.tar.xz") as packed:
        packed.extractall(tmp_path / "out", filter="data")
    with zipfile.ZipFile(tmp_path / "out" / wheel.name) as found:
        assert found.read("some/__init__.py") == b"x = 1\n" * 1000

"""Device decisions are functions of measured facts: tables of machines, and what each of them should do."""

import pytest

from shoes.device import DeviceFacts, choose_device, choose_precision, decide, problems
from shoes.device.decisions import largest_reduction, safer_precisions, too_large_picture
from shoes.device.estimate import PARTS, training_bytes
from shoes.device.facts import GIGABYTE, recommended_working_set
from shoes.errors import ConfigurationError
from shoes.spec import Checkpointing, TrainSpec


def mac(chip: str = "M2 Max", memory: int = 32, macos: str = "14.5", torch: str = "2.13.0") -> DeviceFacts:
    return DeviceFacts(
        device_name=f"Apple {chip}",
        torch_version=torch,
        system="Darwin",
        macos_version=macos,
        mps=True,
        mps_built=True,
        total_memory_bytes=memory * GIGABYTE,
        device_memory_bytes=recommended_working_set(memory * GIGABYTE),
    )


def gpu(major: int, minor: int, memory: int) -> DeviceFacts:
    return DeviceFacts(
        device_name=f"NVIDIA {major}.{minor}",
        cuda=True,
        cuda_capability=(major, minor),
        num_gpus=2,
        total_memory_bytes=64 * GIGABYTE,
        device_memory_bytes=memory * GIGABYTE,
    )


def cpu(memory: int = 32, bf16: bool = False) -> DeviceFacts:
    return DeviceFacts(device_name="x86_64", total_memory_bytes=memory * GIGABYTE, cpu_bf16=bf16, num_threads=4)


def values(spec: TrainSpec, facts: DeviceFacts) -> dict[str, str]:
    return {decision.name: decision.value for decision in decide(spec, facts)}


@pytest.mark.parametrize(
    ("wanted", "found", "device"),
    [
        ("auto", cpu(), "cpu"),
        ("auto", mac(), "mps"),
        ("auto", gpu(8, 0, 24), "cuda"),
        ("cpu", gpu(8, 0, 24), "cpu"),
        ("mps", mac(), "mps"),
    ],
)
def test_the_device(wanted, found: DeviceFacts, device: str) -> None:
    decision = choose_device(wanted, found)
    assert decision.value == device
    assert decision.reason


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_with_the_fix(wanted) -> None:
    with pytest.raises(ConfigurationError, match="device auto"):
        choose_device(wanted, cpu())


@pytest.mark.parametrize(
    ("found", "precision", "because"),
    [
        (gpu(7, 0, 24), "no", "no native bf16"),
        (gpu(7, 5, 24), "no", "no native bf16"),
        (gpu(8, 0, 24), "bf16", "natively"),
        (gpu(8, 9, 24), "bf16", "natively"),
        (gpu(9, 0, 80), "bf16", "natively"),
        *((mac(chip), "no", "black images") for chip in ("M1", "M2", "M2 Max", "M3", "M4", "M5")),
        (cpu(bf16=True), "bf16", "instructions for bf16"),
        (cpu(bf16=False), "no", "not faster in bf16"),
    ],
)
def test_the_precision_of_each_machine(found: DeviceFacts, precision: str, because: str) -> None:
    decision = choose_precision("auto", choose_device("auto", found).value, found)
    assert decision.value == precision
    assert because in decision.reason


@pytest.mark.parametrize(
    ("found", "wanted", "because"),
    [
        (mac("M1"), "bf16", "no native bf16"),
        (mac("M2 Max"), "bf16", "no native bf16"),
        (mac("M3"), "bf16", "asked for"),
        (mac("M5"), "fp16", "asked for"),
        (gpu(7, 5, 24), "bf16", "no native bf16"),
        (cpu(bf16=False), "bf16", "no native bf16"),
        (cpu(bf16=True), "bf16", "asked for"),
    ],
)
def test_a_precision_that_is_asked_for_is_taken_with_what_is_known_of_it(found, wanted, because: str) -> None:
    decision = choose_precision(wanted, choose_device("auto", found).value, found)
    assert decision.value == wanted
    assert because in decision.reason


@pytest.mark.parametrize(
    ("found", "wanted", "what"),
    [
        (cpu(), "fp16", "overflows"),
        (mac(torch="2.7.1"), "fp16", "PyTorch 2.8"),
        (mac(torch="2.5.1"), "bf16", "PyTorch 2.6"),
        (mac(macos="13.6"), "bf16", "macOS 14 or later; this is 13.6"),
    ],
)
def test_a_precision_that_can_not_be_trained_in_is_refused(found: DeviceFacts, wanted, what: str) -> None:
    spec = TrainSpec(mixed_precision=wanted)
    with pytest.raises(ConfigurationError, match="mixed_precision auto") as caught:
        decide(spec, found)
    assert what in str(caught.value)


@pytest.mark.parametrize("torch", ["2.8.0", "2.10.1+cpu", "3.0"])
def test_versions_are_compared_as_numbers(torch: str) -> None:
    assert problems(TrainSpec(mixed_precision="fp16"), mac(torch=torch)) == []


@pytest.mark.parametrize(
    ("found", "devices", "fix"),
    [
        (gpu(9, 0, 80), 2, None),
        (gpu(9, 0, 80), 3, "use --train.devices 2"),
        (mac("M2 Max"), 1, None),
        (mac("M2 Max"), 2, "use --train.devices 1"),
        (cpu(), 8, None),
    ],
)
def test_more_devices_than_there_are_are_refused(found: DeviceFacts, devices: int, fix: str | None) -> None:
    assert [problem.fix for problem in problems(TrainSpec(devices=devices), found)] == ([fix] if fix else [])


def test_all_contradictions_are_told_at_once() -> None:
    spec = TrainSpec(mixed_precision="bf16", devices=2)
    found = problems(spec, mac(macos="13.0"))
    assert [problem.where for problem in found] == ["train.mixed_precision", "train.devices"]


@pytest.mark.parametrize(
    ("found", "changes", "checkpointing"),
    [
        (mac("M1", 8), {}, "full"),
        (mac("M2", 16), {}, "full"),
        (mac("M2", 16), {"train_batch_size": 1}, "attention"),
        (mac("M3", 24), {}, "attention"),
        (mac("M2 Max", 32), {}, "off"),
        (mac("M4", 36), {}, "off"),
        (mac("M5", 64), {"train_batch_size": 4}, "off"),
        (mac("M4", 36), {"train_batch_size": 4, "gradient_accumulation_steps": 4}, "attention"),
        (mac("M2 Max", 32), {"train_batch_size": 4, "gradient_accumulation_steps": 4}, "attention"),
        (mac("M2 Max", 32), {"train_batch_size": 8, "gradient_accumulation_steps": 2}, "full"),
        (mac("M2", 16), {"resolution": 256}, "off"),
        (gpu(7, 5, 8), {}, "full"),
        (gpu(8, 6, 8), {}, "off"),
        (gpu(8, 0, 24), {"train_batch_size": 8}, "off"),
        *((gpu(8, 0, 24), {"train_batch_size": size}, "full") for size in (16, 20, 24, 32)),
        (gpu(9, 0, 80), {"train_batch_size": 16}, "off"),
        *((cpu(memory), {}, "full") for memory in (8, 10, 12)),
        (cpu(32), {}, "off"),
        (mac("M1", 8), {"gradient_checkpointing": "off"}, "off"),
        (mac("M4", 36), {"gradient_checkpointing": "attention"}, "attention"),
        (cpu(32), {"gradient_checkpointing": "attention"}, "attention"),
        (gpu(9, 0, 80), {"gradient_checkpointing": "full"}, "full"),
        (mac("M2", 16), {"lora_dropout": 0.1}, "full"),
        (mac("M3", 24), {"lora_dropout": 0.1}, "attention"),
        (mac("M2 Max", 32), {"lora_dropout": 0.1}, "off"),
        (mac("M2", 16), {"lora_dropout": 0.1, "gradient_checkpointing": "attention"}, "attention"),
    ],
)
def test_checkpointing_is_the_cheapest_that_fits(found: DeviceFacts, changes, checkpointing: str) -> None:
    assert values(TrainSpec(**changes), found)["checkpointing"] == checkpointing


@pytest.mark.parametrize(("memory", "images", "fits"), [(16, 2, True), (16, 4, False), (24, 4, True), (8, 1, False)])
def test_what_full_checkpointing_makes_room_for(memory: int, images: int, fits: bool) -> None:
    (decision,) = (
        d for d in decide(TrainSpec(train_batch_size=images), mac(memory=memory)) if d.name == "checkpointing"
    )
    assert decision.value == "full"
    assert ("it costs half more time" in decision.reason) is fits
    assert ("a smaller train_batch_size needs less" in decision.reason) is not fits


@pytest.mark.parametrize("mode", ["attention", "full"])
def test_parts_of_the_largest_scores_take_the_same_for_any_number_of_images(mode: Checkpointing) -> None:
    def at_no_image(device: str, resolution: int) -> int:
        few, more = (
            training_bytes(TrainSpec(train_batch_size=size, resolution=resolution), device, "no", checkpointing=mode)
            for size in (4, 8)
        )
        return 2 * few - more

    assert at_no_image("mps", 512) - at_no_image("cpu", 512) == pytest.approx(PARTS, abs=4)
    assert at_no_image("mps", 64) == pytest.approx(at_no_image("cpu", 64), abs=4), "all of them are smaller than a part"


@pytest.mark.parametrize("memory", [8, 16, 24, 32, 36, 64, 128])
def test_memory_on_mps_is_limited_to_what_the_machine_has(memory: int) -> None:
    found = mac(memory=memory)
    high, low = (float(word.partition("=")[2]) for word in values(TrainSpec(), found)["memory_limits"].split())
    assert low < high <= 1.0
    assert high * found.device_memory_bytes <= found.total_memory_bytes - 2 * GIGABYTE


def test_a_working_set_that_was_raised_still_leaves_the_system_its_memory() -> None:
    found = mac(memory=32).model_copy(update={"device_memory_bytes": 31 * GIGABYTE})
    assert values(TrainSpec(), found)["memory_limits"].startswith("PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.9 ")


def test_limits_that_the_person_has_set_are_shown_as_theirs() -> None:
    found = mac().model_copy(update={"watermarks": ("0.5", "")})
    decision = next(d for d in decide(TrainSpec(), found) if d.name == "memory_limits")
    assert (decision.value, decision.reason) == (
        "PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.5",
        "set by you in the environment",
    )


@pytest.mark.parametrize("found", [mac(), gpu(8, 0, 24), cpu()])
def test_what_holds_on_every_device(found: DeviceFacts) -> None:
    decisions = decide(TrainSpec(), found)
    assert [decision.name for decision in decisions] == [
        "device",
        "precision",
        "attention",
        "products",
        "checkpointing",
        "optimizer",
        "memory_limits",
        "workers",
        "compile",
        "threads",
    ]
    assert all(decision.reason for decision in decisions)
    fixed = {"attention": "sdpa", "optimizer": "fused", "workers": "0", "compile": "off"}
    assert fixed.items() <= values(TrainSpec(), found).items()


@pytest.mark.parametrize(
    ("found", "device", "products"),
    [
        (mac("M1"), "mps", "parts"),
        (mac("M2 Max"), "mps", "parts"),
        (mac("M2 Max", torch="2.14.1"), "mps", "parts"),
        (mac("M3"), "mps", "parts"),
        (mac("M4"), "mps", "whole"),
        (mac("M10"), "mps", "whole"),
        (mac("A18 Pro"), "mps", "parts"),
        (mac("M2 Max"), "cpu", "whole"),
        (gpu(8, 0, 24), "cuda", "whole"),
        (cpu(), "cpu", "whole"),
    ],
)
def test_long_products_are_made_in_parts_where_no_chip_is_known_to_be_right(found, device: str, products: str) -> None:
    decisions = decide(TrainSpec(device=device), found)
    assert next(decision.value for decision in decisions if decision.name == "products") == products
    assert largest_reduction(device, found) == (32_766 if products == "parts" else None)


@pytest.mark.parametrize(
    ("found", "device", "resolution", "is_refused"),
    [
        (mac("M2 Max"), "mps", 1024, False),
        (mac("M2 Max"), "mps", 1448, False),
        (mac("M2 Max"), "mps", 1456, True),
        (mac("M4"), "mps", 2048, False),
        (mac("M2 Max"), "cpu", 2048, False),
        (gpu(8, 0, 24), "cuda", 2048, False),
    ],
)
def test_pictures_with_more_tokens_than_a_product_may_sum_are_refused(found, device, resolution, is_refused) -> None:
    problem = too_large_picture(device, found, resolution)
    assert (problem is not None) is is_refused
    if problem is not None:
        assert "1448" in problem.fix


@pytest.mark.parametrize(
    ("precision", "resolution", "is_warned"), [("bf16", 512, True), ("bf16", 256, False), ("no", 512, False)]
)
def test_attention_on_mps_loses_accuracy_in_half_precision_with_many_tokens(precision, resolution, is_warned) -> None:
    spec = TrainSpec(mixed_precision=precision, resolution=resolution)
    reason = next(d.reason for d in decide(spec, mac("M4")) if d.name == "attention")
    assert ("4,096 tokens" in reason) is is_warned
    assert "never sliced" in reason


@pytest.mark.parametrize(
    ("found", "start", "order"),
    [
        (mac(), ("mps", "fp16"), [("mps", "bf16"), ("mps", "no"), ("cpu", "no")]),
        (mac(macos="13.0"), ("mps", "fp16"), [("mps", "no"), ("cpu", "no")]),
        (mac(), ("mps", "no"), [("cpu", "no")]),
        (gpu(8, 0, 24), ("cuda", "bf16"), [("cuda", "no"), ("cpu", "no")]),
        (cpu(), ("cpu", "bf16"), [("cpu", "no")]),
    ],
)
def test_the_way_to_safer_precisions_ends_at_fp32_on_the_cpu(found, start, order) -> None:
    assert safer_precisions(*start, found) == order

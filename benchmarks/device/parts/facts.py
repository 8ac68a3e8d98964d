"""What the device is, and what the program decides for a night on it."""

from collections.abc import Iterator

from benchmarks.device import ground
from benchmarks.device.peaks import peak_of
from benchmarks.device.place import Place
from benchmarks.device.rows import Row

PART = "facts"


def run(place: Place) -> Iterator[Row]:
    from shoes import device
    from shoes.device.decisions import memory_room
    from shoes.progress import size

    facts, name = place.facts, place.device
    values = {"device": name, **facts.model_dump(mode="json")}
    yield Row(PART, "device", name, facts.device_name, values=values)
    yield Row(PART, "PyTorch", facts.torch_version, _version_note(facts))
    room = memory_room(name, facts)
    total = facts.device_memory_bytes or facts.total_memory_bytes
    note = f"of {size(total)}; the machine has {size(facts.total_memory_bytes)}"
    yield Row(PART, "memory that a training may take", size(room), note, values={"bytes": room, "total_bytes": total})
    peak = peak_of(name, facts.device_name, place.precision)
    yield Row(PART, "peak of matrix products", peak.in_words, peak.reason, values={"tflops": peak.tflops})
    for decision in device.decide(ground.full_recipe(place).train, facts):
        value = device.precision_name(decision.value) if decision.name == "precision" else decision.value
        figure = " ".join(word.rpartition("=")[2] for word in value.split())  # a limit without its variable's name
        what = decision.name.replace("_", " ")
        yield Row(PART, f"decided: {what}", figure, decision.reason, values={decision.name: value})


def _version_note(facts: object) -> str:
    from shoes.device import DeviceFacts

    assert isinstance(facts, DeviceFacts)
    if facts.cuda:
        major, minor = facts.cuda_capability
        return f"compute capability {major}.{minor}, {facts.num_gpus} CUDA device{'s' * (facts.num_gpus != 1)}"
    return f"macOS {facts.macos_version}" if facts.macos_version else facts.system

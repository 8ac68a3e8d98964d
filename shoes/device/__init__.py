"""What this machine can do, what is decided from that, and whether the device computes right.

facts.py       measured facts; the only place that asks the machine
decisions.py   pure functions of facts and spec, each choice with its reason
estimate.py    memory of a training, before anything is measured
memory.py      memory limits of the device, and peak memory while something runs
awake.py       keeps the machine from sleeping
pressure.py    how short the machine's memory is while it trains
parity.py      what a night computes on the device, against fp32 on the CPU
tf32.py        whether products of fp32 are computed in fp32
"""

from shoes.device.awake import kept_awake
from shoes.device.decisions import (
    Decision,
    checkpointing_modes,
    choose_checkpointing,
    choose_device,
    choose_precision,
    decide,
    largest_reduction,
    precision_name,
    problems,
    safer_precisions,
    too_large_picture,
    torch_dtype,
)
from shoes.device.facts import DeviceFacts, measure
from shoes.device.memory import Watch, apply_limits, is_out_of_memory, limit_memory, release, watch_memory

__all__ = [
    "Decision",
    "DeviceFacts",
    "Watch",
    "apply_limits",
    "checkpointing_modes",
    "choose_checkpointing",
    "choose_device",
    "choose_precision",
    "decide",
    "is_out_of_memory",
    "kept_awake",
    "largest_reduction",
    "limit_memory",
    "measure",
    "precision_name",
    "problems",
    "release",
    "safer_precisions",
    "too_large_picture",
    "torch_dtype",
    "watch_memory",
]

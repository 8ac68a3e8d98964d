"""What this machine can do, what is decided from that, and whether the device computes right.

facts.py       measured facts; the only place that asks the machine
decisions.py   pure functions of facts and spec, each choice with its reason
estimate.py    memory of a training, before anything is measured
memory.py      memory limits of the device, and peak memory while something runs
parity.py      one step and one decode on the device against fp32 on the CPU
"""

from shoes.device.decisions import (
    Decision,
    choose_checkpointing,
    choose_device,
    choose_precision,
    decide,
    precision_name,
    problems,
    torch_dtype,
)
from shoes.device.facts import DeviceFacts, measure
from shoes.device.memory import Watch, apply_limits, limit_memory, release, watch_memory

__all__ = [
    "Decision",
    "DeviceFacts",
    "Watch",
    "apply_limits",
    "choose_checkpointing",
    "choose_device",
    "choose_precision",
    "decide",
    "limit_memory",
    "measure",
    "precision_name",
    "problems",
    "release",
    "torch_dtype",
    "watch_memory",
]

"""Two processes train what one trains: the same global batches, the same losses to rounding."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shoes.spec import Recipe
from shoes.training.team import Team
from tests.training.opening import train
from tests.world import free_port

SHOES = ["-c", "from flows.cli import main; main()"]


@pytest.mark.parametrize(("batch", "size"), [(16, 2), (16, 3), (5, 2), (2, 2), (7, 1)])
def test_shares_are_the_whole_batch_and_differ_by_one_at_most(batch: int, size: int) -> None:
    shares = [Team(rank, size).share(batch) for rank in range(size)]
    assert [position for share in shares for position in share] == list(range(batch))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def run(words: list[str], folder: Path) -> dict[str, object]:
    environment = {**os.environ, "SHOES_DATA_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("how", ["--devices", pytest.param("torchrun", marks=pytest.mark.slow)])
def test_two_processes_agree_with_one(
    how: str, with_small_data: Path, micro: Callable[..., Recipe], micro_flags: list[str]
) -> None:
    options = {"train.lora_dropout": "0.1", "train.caption_dropout": "0.2", "train.gradient_accumulation_steps": "3"}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = ["train", "--json", *micro_flags, *flags]
    if how == "--devices":
        two = run([*SHOES, *command, "--devices", "2"], with_small_data)
    else:
        # what `accelerate launch` starts for several GPUs; on CPUs it wants MPI
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
        two = run([*launcher, "-m", "flows", *command], with_small_data)
    one = train(micro(options))
    assert two["step"] == one.step == 4
    for theirs, ours in zip(two["losses"], one.losses, strict=True):
        assert theirs["mean"] == pytest.approx(ours.mean, rel=1e-5)
    assert two["losses"][-1]["mean"] != two["losses"][0]["mean"]
    decisions = json.loads((Path(two["run_dir"]) / "decisions.json").read_text())
    assert decisions["processes"] == 2
    steps = [json.loads(line) for line in (Path(two["run_dir"]) / "journal.jsonl").read_text().splitlines()]
    assert [e["step"] for e in steps if "train/loss" in e.get("values", {})] == [1, 2, 3, 4], "rank 0 alone writes"


@pytest.mark.slow
def test_full_memory_in_another_process_is_met_by_all(with_small_data: Path, micro_flags: list[str]) -> None:
    fault = (
        "import os, torch\n"
        "from shoes.training.objective import Objective\n"
        "usual, calls = Objective.training_losses, []\n"
        "def harmed(self, batch):\n"
        "    calls.append(batch)\n"
        "    if len(calls) >= 2 and len(batch.clean) > 1:\n"
        "        raise torch.OutOfMemoryError('CUDA out of memory')\n"
        "    return usual(self, batch)\n"
        "if os.environ.get('RANK') == '1':\n"
        "    Objective.training_losses = harmed\n"
    )
    (with_small_data / "sitecustomize.py").write_text(fault)
    environment = {"PYTHONPATH": os.pathsep.join([str(with_small_data), *sys.path[:1]])}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        flags = ["--train.train_batch_size", "4", "--train.devices", "2"]
        report = run([*SHOES, "train", "--json", *micro_flags, *flags], with_small_data)
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert [(done["step"], done["kind"]) for done in report["interventions"]] == [
        (2, "micro_batch"),
        (2, "micro_batch"),
    ]
    assert report["step"] == 4

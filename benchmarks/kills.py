"""Short trainings killed again and again at seeded random moments: does each end with the bytes that it should?

    python benchmarks/kills.py [--kills 100] [--lanes 2] [--seed 0] [--work DIR] [--quick]

Trainings of the demo's model run through `shoes train`, each in a data folder of its own, and are killed by SIGKILL
with their whole process group: while they load, encode photos, take steps, validate, export, save and end. A killed
training is started again until it is done; then its adapter must be, byte for byte, that of a training that nobody
interrupted, and both its journal and MLflow must hold every step once, with the same loss. Lanes run beside each
other with one thread each. Prints what was hit, then one JSON line; exit code 1 on any mismatch, whose data folder
is kept.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STEPS = 12
ADAPTER = "pytorch_lora_weights.safetensors"
EVERY = 4
"""Steps between two validations, and between two candidates."""
RECIPE = {
    "data.dataset_dir": "data/small",
    "train.train_batch_size": "2",
    "train.gradient_accumulation_steps": "2",
    "train.eval_batch_size": "4",
    "train.max_train_steps": str(STEPS),
    "train.lr_warmup_steps": "1",
    "train.save_steps": str(EVERY),
    "train.validation_steps": str(EVERY),
    "train.validation_images": "2",
    "train.validation_prompts": "a shoe",
    "train.checkpointing_steps": "2",
    "train.candidates_total_limit": "2",
    "train.early_stopping_patience": "none",
    "train.caption_dropout": "0.1",
    "train.use_ema": "true",
    "eval.num_inference_steps": "3",
}
PHASES = ("starting", "encoding", "loading", "step", "candidate", "validation", "checkpoint", "conclusion", "ending")
AT_THE_START = {"parameters", "tags", "links", "spec", "environment", "data", "session", "decisions"}
"""Kinds of events that are written before the first step of a process."""
MOST_DELAY_SECONDS = {"starting": 1.8, "loading": 8.0, "encoding": 0.2, "step": 0.3, "validation": 0.6, "ending": 1.0}
"""A kill comes a random time after its phase was seen: up to this, or a fiftieth of a second where files are saved."""
KILLS_PER_TRAINING = (3, 7)
PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Scene:
    """What the files of a training show of one process that runs it."""

    last: str
    """Id of the last event that this process wrote into the journal; nothing while it has not begun."""
    step: int
    """The last step in the journal, whoever took it."""
    writing: str
    """The phase whose folder this process is writing just now, or nothing."""
    is_encoded: bool
    is_over: bool
    """The last validation is in the journal."""
    is_reported: bool

    @property
    def phase(self) -> str:
        """What the process is at."""
        if not self.last:
            return "starting"
        if self.is_reported:
            return "ending"
        if self.writing or self.is_over:
            return self.writing or "conclusion"
        return self._phase_by_journal()

    def _phase_by_journal(self) -> str:
        kind, _, number = self.last.partition("/")
        if kind in AT_THE_START:
            return "loading"
        is_due = kind == "train" and int(number) % EVERY == 0
        return "validation" if is_due or kind == "validation" else "step"

    @property
    def ahead(self) -> list[str]:
        """Phases that a process started now will go through, boring ones less often."""
        if self.is_reported:
            return ["starting"]
        encoding = [] if self.is_encoded else ["encoding"] * 3
        steps = ["step", "checkpoint", "candidate", "validation"] * 2 if self.step < STEPS - 1 else []
        return ["starting", "loading", *encoding, *steps, "conclusion", "ending"]


def look(folder: Path, pid: int, num_sessions: int) -> Scene:
    """The scene in a data folder; `num_sessions` is how often the training was begun before this process."""
    events = read_journal(folder)
    run = next(folder.glob("runs/*/journal.jsonl"), folder / "none").parent
    begun = [index for index, event in enumerate(events) if event["id"].startswith("session/")][num_sessions:]
    places = {
        "encoding": (caches := folder / "cache/latents", ""),
        "checkpoint": (run / "checkpoints", "step"),
        "candidate": (run / "candidates", "step"),
        "conclusion": (run, "adapter"),
    }
    written = (phase for phase, (place, name) in places.items() if any(place.glob(f".partial-{name}*-{pid}")))
    return Scene(
        last=events[-1]["id"] if begun else "",
        step=max((event["step"] for event in events if "train/loss" in event.get("values", {})), default=0),
        writing=next(written, ""),
        is_encoded=len([path for path in caches.glob("*") if path.name[0] != "."]) >= 2,
        is_over=any(event["id"].startswith(f"samples/{STEPS}") for event in events),
        is_reported=(run / "report.json").is_file(),
    )


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Whole lines of the one journal in a data folder."""
    journal = next(folder.glob("runs/*/journal.jsonl"), None)
    lines = journal.read_bytes().split(b"\n")[:-1] if journal else []
    return [json.loads(line) for line in lines]


def num_sessions(folder: Path) -> int:
    """How often the training in a data folder was begun."""
    return sum(event["id"].startswith("session/") for event in read_journal(folder))


@dataclass(frozen=True)
class Outcome:
    """A finished training, as far as it must not depend on interruptions."""

    adapter: dict[str, str]
    """SHA-256 of every file of the adapter."""
    journal: list[tuple[str, int, float]]
    """Metric, step and value of all training and validation metrics that hold no time."""
    mlflow: list[tuple[str, int, float]]
    """The same, from its database."""
    states: tuple[str, ...]
    """MLflow's word for each of the runs; there must be one."""


def outcome_of(folder: Path) -> Outcome:
    from shoes.storage import hash_files

    run = next(folder.glob("runs/*"))
    points = [
        (name, event["step"], value)
        for event in read_journal(folder)
        for name, value in event.get("values", {}).items()
        if event["kind"] == "metrics" and is_compared(name)
    ]
    with closing(sqlite3.connect(f"file:{folder / 'mlruns/mlflow.db'}?mode=ro", uri=True)) as base:
        states = tuple(status for (status,) in base.execute("SELECT status FROM runs"))
        rows = base.execute("SELECT key, step, value FROM metrics").fetchall()
    return Outcome(
        adapter=hash_files(run / "adapter"),
        journal=sorted(points),
        mlflow=sorted(row for row in rows if is_compared(row[0])),
        states=states,
    )


def is_compared(metric: str) -> bool:
    return metric.startswith(("train/", "val/")) and metric != "train/images_per_second"


def differences(found: Outcome, expected: Outcome) -> list[str]:
    """What is not as in the training that nobody interrupted."""
    names = ("adapter", "journal", "mlflow", "states")
    return [
        f"{name}: {_difference(getattr(found, name), getattr(expected, name))}"
        for name in names
        if getattr(found, name) != getattr(expected, name)
    ]


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict):
        return f"other bytes in {sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))}"
    more, less = Counter(found) - Counter(expected), Counter(expected) - Counter(found)
    return f"{more.total()} too many ({list(more)[:3]}), {less.total()} missing ({list(less)[:3]})"


def is_complete(outcome: Outcome) -> bool:
    """Every step once, in both places, and one run that is finished."""
    steps = [[step for name, step, _ in points if name == "train/loss"] for points in (outcome.journal, outcome.mlflow)]
    return all(found == list(range(1, STEPS + 1)) for found in steps) and outcome.states == ("FINISHED",)


@dataclass
class Tally:
    """What all lanes did together."""

    wanted: int
    phases: tuple[str, ...] = PHASES
    """Where kills are aimed at."""
    hits: Counter[str] = field(default_factory=Counter)
    num_finished: int = 0
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_full(self) -> bool:
        return self.hits.total() >= self.wanted

    def kill(self, process: "subprocess.Popen[str]", folder: Path, before: int) -> str | None:
        """Kill a training with all its children, and say what it was at; nothing if enough were killed."""
        with self.lock:
            if self.is_full or process.poll() is not None:
                return None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            phase = look(folder, process.pid, before).phase
            self.hits[phase] += 1
            return phase


def start(folder: Path) -> "subprocess.Popen[str]":
    """`shoes train` as a person starts it, on one thread, leading a process group of its own."""
    flags = [word for name, value in RECIPE.items() for word in (f"--{name}", value)]
    own = {"SHOES_DATA_DIR": str(folder), "SHOES_LOCK_DIR": str(folder / "locks")}  # lanes don't wait for each other
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", "train", "--json", *flags],
        env={**os.environ, **own, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def new_data_folder(folder: Path, data_set: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "small").symlink_to(data_set)
    return folder


def make_data_set(target: Path) -> Path:
    """28 products of the demo's data set, as a data set of their own."""
    from PIL import Image

    from shoes import dataset
    from shoes.dataset import Product
    from shoes.settings import PROJECT_ROOT
    from shoes.spec import DataSpec

    records = dataset.load_split(PROJECT_ROOT / "data/demo/casual_shoes/train")[:28]
    products = [
        Product(id=r.image.stem, attributes=r.attributes, load=lambda path=r.image: Image.open(path).convert("RGB"))
        for r in records
    ]
    spec = DataSpec(val_fraction=0.2, test_fraction=0.2)
    dataset.write_data_set(target, products, spec, resolution=64, source={"kind": "benchmark"})
    return target


def straight(folder: Path) -> Outcome:
    """The training that nobody interrupts."""
    process = start(folder)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode:
        sys.exit(f"the training failed without any kill:\n{err[-2000:]}")
    outcome = outcome_of(folder)
    if not is_complete(outcome):
        sys.exit(f"the training without any kill is not complete: {outcome.states}, {len(outcome.journal)} points")
    return outcome


def tormented(folder: Path, expected: "Future[Outcome]", tally: Tally, rng: random.Random) -> None:
    """Kill one training a few times, in phases drawn by lot, and write down what is wrong with it in the end."""
    started = time.monotonic()
    num_kills = rng.randint(*KILLS_PER_TRAINING)
    hits = []
    process = start(folder)
    while len(hits) < num_kills and (hit := killed(process, folder, tally, rng)):
        hits.append(hit)
        process = start(folder)
    faults = faults_of(process, folder, expected)
    with tally.lock:
        tally.num_finished += 1
        tally.faults += [f"{folder}: {fault}" for fault in faults]
        verdict = "; ".join(faults) or "the same bytes, every step once"
        seconds = time.monotonic() - started
        print(f"{folder.name}: killed in {', '.join(hits) or 'nothing'}: {verdict} ({seconds:.0f} s)", flush=True)
    if not faults:
        shutil.rmtree(folder)


def killed(process: "subprocess.Popen[str]", folder: Path, tally: Tally, rng: random.Random) -> str | None:
    """Kill a training a random while after it came to a phase; nothing if it ended first, or enough were killed."""
    before = num_sessions(folder)
    scene = look(folder, process.pid, before)
    aims = [phase for phase in scene.ahead if phase in tally.phases]
    if not aims or (scene.is_reported and rng.random() < 0.5):
        return None
    target = rng.choice(aims)
    at_step = rng.randint(scene.step + 1, STEPS - 1) if target == "step" and scene.step < STEPS - 1 else 0
    delay = rng.uniform(0, MOST_DELAY_SECONDS.get(target, 0.02))
    while process.poll() is None and not tally.is_full:
        scene = look(folder, process.pid, before)
        if scene.phase == target and scene.step >= at_step:
            time.sleep(delay)
            return tally.kill(process, folder, before)
        time.sleep(0.003)
    return None


def faults_of(process: "subprocess.Popen[str]", folder: Path, expected: "Future[Outcome]") -> list[str]:
    """What is wrong with a training, after waiting for its end."""
    try:
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return [f"was not done after {PATIENCE_SECONDS:.0f} s"]
    if process.returncode:
        return [f"ended with code {process.returncode}: {err[-1500:]}"]
    told, right = json.loads(out)["adapter_sha256"], expected.result()
    wrong = [] if told == right.adapter[ADAPTER] else [f"reports another adapter, {told}"]
    return wrong + differences(outcome_of(folder), right)


def lane(number: int, work: Path, data_set: Path, expected: "Future[Outcome]", tally: Tally, seed: int) -> None:
    """Trainings one after the other until enough were killed."""
    rng = random.Random(f"{seed}/{number}")
    training = 0
    while not tally.is_full:
        training += 1
        tormented(new_data_folder(work / f"lane-{number}-{training:02d}", data_set), expected, tally, rng)


def run(work: Path, *, kills: int, lanes: int, seed: int, phases: tuple[str, ...] = PHASES) -> dict[str, object]:
    """The whole bench in a folder; its figures."""
    started = time.monotonic()
    data_set = make_data_set(work / "small")
    tally = Tally(kills, phases)
    with ThreadPoolExecutor(lanes + 1) as pool:
        expected = pool.submit(straight, new_data_folder(work / "straight", data_set))
        running = [pool.submit(lane, n + 1, work, data_set, expected, tally, seed) for n in range(lanes)]
    for done in (expected, *running):
        done.result()
    minutes = (time.monotonic() - started) / 60
    return {
        "benchmark": "kills",
        "kills": tally.hits.total(),
        "lanes": lanes,
        "seed": seed,
        "steps": STEPS,
        "hit": {phase: tally.hits[phase] for phase in PHASES},
        "trainings_finished": tally.num_finished,
        "mismatches": len(tally.faults),
        "faults": tally.faults,
        "minutes": round(minutes, 1),
        "is_within_40_minutes": minutes <= 40,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--lanes", type=int, default=max(1, min(4, (os.cpu_count() or 1))))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="an empty or new folder; without it a temporary one")
    parser.add_argument("--quick", action="store_true", help="2 kills in one lane")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.lanes = 2, 1
    return options


def main() -> None:
    options = arguments()
    work = options.work or Path(tempfile.mkdtemp(prefix="shoes-kills-"))
    work.mkdir(parents=True, exist_ok=True)
    figures = run(work.absolute(), kills=options.kills, lanes=options.lanes, seed=options.seed)
    print("\nkilled while")
    for phase, count in figures["hit"].items():
        print(f"  {phase:<12} {count:4}")
    print(f"{figures['trainings_finished']} trainings finished, {figures['mismatches']} mismatches\n")
    print(json.dumps(figures))
    if figures["mismatches"]:
        sys.exit(1)
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()

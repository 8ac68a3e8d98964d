"""The kit's command: the rows while they come, then one line of JSON."""

import argparse
import contextlib
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.device import kit, table
from benchmarks.device.place import Options
from benchmarks.device.rows import Row

FORMAT = 1
LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy", "pillow")
SMOKE_MINUTES = 1.5


def main(arguments: Sequence[str] | None = None) -> int:
    started = time.monotonic()
    given = parsed(arguments)
    if not given.smoke and given.device == "auto" and not has_accelerator():
        print("There is no CUDA or MPS device here. --smoke tries the same code on the CPU.", file=sys.stderr)
        print(json.dumps({"benchmark": "device", "skipped": "no CUDA or MPS device"}))
        return 2
    rows: list[Row] = []
    ends: list[kit.PartEnd] = []
    with work_folder(given.work) as work:
        options = Options(work, given.device, given.smoke)
        code = collect(given, options, rows, ends, started)
    result = as_json(rows, ends, given, time.monotonic() - started, is_whole=code != 130)
    print(f"\n{summary(rows, result['seconds'])}")
    if given.out is not None:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return code


def collect(
    given: argparse.Namespace, options: Options, rows: list[Row], ends: list[kit.PartEnd], started: float
) -> int:
    """Run all parts into `rows` and `ends`; the exit code."""

    def tell(row: Row) -> None:
        if row.part not in {known.part for known in rows}:
            print(f"\n{table.title(row.part)}")
        rows.append(row)
        print("\n".join(table.lines(row)), flush=True)

    try:
        for end in kit.run(given.parts, options, minutes=given.minutes, tell=tell, started=started):
            ends.append(end)
    except KeyboardInterrupt:
        print("\ninterrupted: what there is stands above", flush=True)
        return 130
    return 1 if any(row.status == "failed" for row in rows) else 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [part.name for part in kit.PARTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description="What a GPU does with shoes.")
    parser.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    parser.add_argument("--smoke", action="store_true", help="the same code, narrow models, few steps, any device")
    parser.add_argument("--minutes", type=float, help=f"for all of it: 8; with --smoke {SMOKE_MINUTES}")
    parser.add_argument("--parts", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument("--work", type=Path, help="folder for the models, to be used again; else a temporary one")
    given = parser.parse_args(arguments)
    wanted = [name.strip() for name in given.parts.split(",")]
    if unknown := sorted(set(wanted) - set(names)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(names)}")
    given.parts = [part for part in kit.PARTS if part.name in wanted]
    given.minutes = given.minutes or (SMOKE_MINUTES if given.smoke else 8.0)
    return given


def has_accelerator() -> bool:
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


@contextlib.contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        shutil.rmtree(given / "runs", ignore_errors=True)  # the next time begins anew
        return
    with tempfile.TemporaryDirectory(prefix="shoes-device-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def as_json(
    rows: Sequence[Row], ends: Sequence[kit.PartEnd], given: argparse.Namespace, seconds: float, *, is_whole: bool
) -> dict[str, Any]:
    device = next((row.values for row in rows if row.part == "facts" and "device" in row.values), {})
    return {
        "benchmark": "device",
        "format": FORMAT,
        "device": device.get("device"),
        "device_name": device.get("device_name"),
        "smoke": given.smoke,
        "minutes": given.minutes,
        "seconds": round(seconds, 1),
        "interrupted": not is_whole,
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in LIBRARIES},
        "parts": {end.name: {"seconds": round(end.seconds, 1), "is_well": end.is_well} for end in ends},
        "rows": [row.as_json() for row in rows],
    }


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def summary(rows: Sequence[Row], seconds: float) -> str:
    counts = {status: sum(row.status == status for row in rows) for status in ("failed", "does not fit", "not run")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{len(rows)} rows in {seconds / 60:.1f} minutes" + (f": {told}" if told else "")


if __name__ == "__main__":
    sys.exit(main())

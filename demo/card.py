"""The data card of the shipped assets: where they are from, what they can do, and the figures behind it.

    python -m demo.card --catalogue DIR [--work DIR] [--target data/demo] [--made-from TEXT]

Measures the assets in the target (once; the figures are kept in the work folder) and writes its README.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from demo.plan import Plan
from shoes import storage
from shoes.dataset import load_split

MADE_HERE = "All models were trained by `python -m demo.make`, in the order below."
TEMPLATE = Path(__file__).with_name("card.md")


def write_card(target: Path, figures: str, timings: str, made_from: str) -> None:
    """Write README.md beside the assets."""
    source = json.loads((target / "casual_shoes" / storage.MANIFEST).read_text(encoding="utf-8"))
    text = TEMPLATE.read_text(encoding="utf-8")
    values = {
        "sizes": sizes(target),
        "splits": splits(target / "casual_shoes"),
        "selection": selection(source["source"]),
        "figures": figures.strip(),
        "timings": timings.strip(),
        "made_from": made_from,
    }
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    storage.write_text(target / "README.md", text)


def sizes(target: Path) -> str:
    """What every part weighs."""
    rows = ["| part | files | MB |", "| --- | ---: | ---: |"]
    for part in ("model", "clip", "casual_shoes"):
        files = [path for path in (target / part).rglob("*") if path.is_file()]
        rows.append(f"| {part}/ | {len(files)} | {sum(f.stat().st_size for f in files) / 1e6:.1f} |")
    return "\n".join(rows)


def splits(data_set: Path) -> str:
    """Images and captions of the three splits."""
    rows = ["| split | images | different captions | colours |", "| --- | ---: | ---: | ---: |"]
    for name in ("train", "val", "test"):
        records = load_split(data_set / name, decode=False)
        captions = {record.caption for record in records}
        colours = {record.attributes.get("colour") for record in records}
        rows.append(f"| {name} | {len(records)} | {len(captions)} | {len(colours)} |")
    return "\n".join(rows)


def selection(source: dict[str, Any]) -> str:
    """How many drawings were refused, and why."""
    refused = ", ".join(f"{count} {why}" for why, count in sorted(source["refused"].items()))
    more = source["candidates"] - source["kept"] - sum(source["refused"].values())
    drawn, kept = source["candidates"], source["kept"]
    return f"{drawn} were drawn, {kept} are kept, {more} were more than needed; refused: {refused}."


def timings(work: Path) -> str:
    """Steps and rates of the trainings whose journals are in a work folder."""
    rows = ["| training | steps | seconds a step | minutes |", "| --- | ---: | ---: | ---: |"]
    journals = sorted({*work.glob("*/*.jsonl"), *work.glob("checkpoints/*/*.jsonl")})
    for journal in journals:
        last = json.loads(journal.read_text(encoding="utf-8").splitlines()[-1])
        name = journal.parent.name.rsplit("-", 1)[0]
        minutes = last["step"] * last["seconds_per_step"] / 60
        rows.append(f"| {name} | {last['step']:,} | {last['seconds_per_step']:.2f} | {minutes:.0f} |")
    return "\n".join(rows)


def measure_shipped(catalogue: Path, work: Path, target: Path, plan: Plan, device: str) -> str:
    """The figures of what is in the target, as a table."""
    from demo.assets import photos_stage
    from demo.compare import PARTS, measured, table
    from demo.stages import Workshop

    workshop = Workshop(work.resolve(), device)
    photos = photos_stage(workshop, catalogue, plan.resolution)
    parts = {part: target / part for part in PARTS}
    judges = {"shipped": parts["clip"]}
    return table({"shipped": measured(workshop, photos, parts, judges, plan.effort)})


def main() -> int:
    """Measure what is shipped and write its card."""
    from demo import make

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogue", type=Path, required=True, help="the folder with styles.csv and images/")
    make.add_places(parser)
    parser.add_argument("--made-from", default=MADE_HERE, help="a sentence on what the models were made from")
    arguments = parser.parse_args()
    make.start_logging()
    plan, device = make.plan_of(arguments), make.choose_device(arguments.device)
    figures = measure_shipped(arguments.catalogue, arguments.work, arguments.target, plan, device)
    write_card(arguments.target, figures, timings(arguments.work), arguments.made_from)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare new assets with the shipped ones, and put them in their place only if they are better.

python -m demo.compare --work DIR [--target data/demo] [--install]
"""

import argparse
import json
import logging
import shutil
import sys
from pathlib import Path

from demo import measuring
from demo.assets import held_out, read_group
from demo.card import timings, write_card
from demo.measuring import Effort, Evidence, Judgement, Measures, Photos
from demo.plan import Plan
from demo.scoring import Scorer
from demo.stages import Workshop
from shoes import storage

log = logging.getLogger("demo")

PARTS = ("model", "clip", "casual_shoes")
MADE = "assets.json"
"""File in the work folder that names what was made last."""
SHARPNESS_SLACK = 1.05
"""A new VAE may be this much worse, if what is drawn through it is better."""


def is_complete(folder: Path) -> bool:
    """Whether a folder holds all the assets, whole."""
    return all(storage.is_whole(folder / part) for part in PARTS)


def measured(
    workshop: Workshop, photos: Path, parts: dict[str, Path], judges: dict[str, Path], effort: Effort
) -> Measures:
    """The figures of some assets, taken once."""
    inputs = [_identity(parts[part]) for part in PARTS]
    inputs += [
        sorted((name, _identity(folder)) for name, folder in judges.items()),
        vars(effort),
        photos.name,
    ]

    def make(folder: Path, _: Path) -> None:
        scorers = {name: Scorer(judge, workshop.device) for name, judge in judges.items()}
        model, data_set = parts["model"], parts["casual_shoes"]
        figures = measuring.measure(model, data_set, scorers, gather(photos), effort=effort, device=workshop.device)
        figures.save(folder / "measures.json")

    return measuring.load(workshop.stage("measures", inputs, make) / "measures.json")


def gather(photos: Path) -> Evidence:
    """The held-out casual shoes, and other articles from all over the catalogue."""
    casual = Photos(*held_out(*read_group(photos, "casual")))
    items, pixels = read_group(photos, "others")
    step = max(1, len(items) // len(casual.items))
    return Evidence(casual, Photos(items[::step], pixels[::step]))


def _identity(folder: Path) -> str:
    return storage.sha256(folder / storage.MANIFEST)


def faults(new: Measures, shipped: Measures | None) -> list[str]:
    """Why the new assets should not replace the shipped ones; nothing means that they should."""
    found = _absolute_faults(new, new.judgements["new"])
    if shipped is None:
        return found
    if new.vae_error > SHARPNESS_SLACK * shipped.vae_error:
        found.append(f"the VAE is less exact: {new.vae_error:.2f} against {shipped.vae_error:.2f}")
    aucs = [new.judgements[judge].impostor_auc for judge in ("new", "shipped")]
    if aucs[0] < aucs[1]:
        found.append(f"the new CLIP tells shoes from other things less well: {aucs[0]:.0%} against {aucs[1]:.0%}")
    for judge, verdict in new.judgements.items():
        old = shipped.judgements[judge]
        if verdict.adapter_share < old.adapter_share:
            shares = f"{verdict.adapter_share:.2f} against {old.adapter_share:.2f}"
            found.append(f"the adapter's drawings fit their captions less, says the {judge} CLIP: {shares}")
        if verdict.adapter_cmmd > old.adapter_cmmd:
            distances = f"{verdict.adapter_cmmd:.3f} against {old.adapter_cmmd:.3f}"
            found.append(f"the adapter's drawings are farther from real ones, says the {judge} CLIP: {distances}")
    return found


def _absolute_faults(new: Measures, verdict: Judgement) -> list[str]:
    """What the demo depends on, whatever is shipped; its own CLIP is the judge."""
    questions = {
        "200 steps of LoRA hardly raise the CLIP score": verdict.adapter_score < verdict.base_score + 5,
        "the CLIP can't tell a caption from another photo's": verdict.real_score < verdict.shuffled_score + 5,
        "the CLIP can't tell shoes from other things of their colour": verdict.impostor_auc < 0.8,
        "LoRA does not lower the loss on real photos": new.adapter_loss >= new.base_loss,
        "some of the adapter's drawings are blank or dark": new.adapter_blank > 0.05,
    }
    return [what for what, is_bad in questions.items() if is_bad]


def table(columns: dict[str, Measures]) -> str:
    """The figures side by side, as a Markdown table."""
    rows = {name: _figures(measures) for name, measures in columns.items()}
    lines = ["| figure (base → adapter) | " + " | ".join(rows) + " |", "| --- |" + " ---: |" * len(rows)]
    labels = next(iter(rows.values()))
    lines += [f"| {label} | " + " | ".join(row[label] for row in rows.values()) + " |" for label in labels]
    return "\n".join(lines) + "\n"


def _figures(measures: Measures) -> dict[str, str]:
    figures = {
        "VAE round trip, RMS error of 255": f"{measures.vae_error:.2f}",
        "loss on real casual shoes": f"{measures.base_loss:.4f} → {measures.adapter_loss:.4f}",
        "drawings blank or dark": f"{measures.base_blank:.0%} → {measures.adapter_blank:.0%}",
    }
    for name, verdict in measures.judgements.items():
        figures[f"CLIP score, by the {name} CLIP"] = f"{verdict.base_score:.1f} → {verdict.adapter_score:.1f}"
        figures[f"the same of real photos, others' … own captions, by the {name} CLIP"] = (
            f"{verdict.shuffled_score:.1f} … {verdict.real_score:.1f}"
        )
        figures[f"the same of other articles of that colour, by the {name} CLIP"] = f"{verdict.impostor_score:.1f}"
        figures[f"a real photo scores above one of those, by the {name} CLIP"] = f"{verdict.impostor_auc:.0%}"
        figures[f"CMMD to real photos, by the {name} CLIP"] = f"{verdict.base_cmmd:.2f} → {verdict.adapter_cmmd:.2f}"
    return figures


def compare(
    workshop: Workshop, new: dict[str, Path], target: Path, plan: Plan
) -> tuple[dict[str, Measures], list[str]]:
    """The figures of both, also as `comparison.md` in the work folder, and why not to install the new ones."""
    shipped = {part: target / part for part in PARTS} if is_complete(target) else None
    judges = {"new": new["clip"]} | ({"shipped": shipped["clip"]} if shipped else {})
    photos = new["photos"]
    columns = {"new": measured(workshop, photos, new, judges, plan.effort)}
    if shipped:
        columns["shipped"] = measured(workshop, photos, shipped, judges, plan.effort)
    found = faults(columns["new"], columns.get("shipped"))
    verdict = "".join(f"- {fault}\n" for fault in found) or "The new assets are better.\n"
    storage.write_text(workshop.folder / "comparison.md", table(columns) + "\n" + verdict)
    return columns, found


def install(new: dict[str, Path], target: Path) -> None:
    """Put the new assets in the place of the shipped ones, part by part, each whole."""
    for part in PARTS:
        with storage.new_folder(target / part, manifest=False) as folder:
            shutil.copytree(new[part], folder, dirs_exist_ok=True)
    log.info("installed in %s", target)


def main() -> int:
    """Compare what `demo.make` left in the work folder; exit 1 if it is not better."""
    from demo import make

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    make.add_places(parser)
    parser.add_argument("--install", action="store_true", help="replace the shipped assets if these are better")
    arguments = parser.parse_args()
    make.start_logging()
    made = json.loads((arguments.work / MADE).read_text(encoding="utf-8"))
    new = {part: Path(folder) for part, folder in made["assets"].items()}
    workshop = Workshop(arguments.work.resolve(), make.choose_device(arguments.device))
    plan = make.plan_of(arguments)
    return finish(workshop, new, arguments.target, plan, made["made_from"], may_install=arguments.install)


def finish(
    workshop: Workshop, new: dict[str, Path], target: Path, plan: Plan, made_from: str, *, may_install: bool
) -> int:
    """Compare, install what is better and write its card; 1 if it is not better."""
    made = {"assets": {part: str(folder) for part, folder in new.items()}, "made_from": made_from}
    storage.write_text(workshop.folder / MADE, storage.pretty_json(made))
    columns, found = compare(workshop, new, target, plan)
    log.info("see %s", workshop.folder / "comparison.md")
    for fault in found:
        log.warning("%s", fault)
    if may_install and not found:
        install(new, target)
        write_card(target, table(columns), timings(workshop.folder), made_from)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""The model card of an exported adapter: README.md with the Hub's front matter, and the pictures beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoes import dataset
from shoes.dataset.manifest import Manifest, read_manifest
from shoes.evaluation.pictures import open_picture
from shoes.litter import visible
from shoes.publishing.export import KOHYA_FILE
from shoes.publishing.licence import Licence, is_on_hub, licence_of, public_name
from shoes.publishing.subject import Subject
from shoes.reports import Comparison, EvaluationReport, Interval
from shoes.spec.names import names_weights
from shoes.storage import remove_path

CARD = "README.md"
IMAGES = "images"
TEMPLATE = Path(__file__).with_name("card.md.j2")
MOST_SAMPLES = 4
_TAGS = ["text-to-image", "stable-diffusion", "stable-diffusion-diffusers", "diffusers", "diffusers-training", "lora"]
_WORDS_OF_A_TRIGGER = 3


@dataclass(frozen=True)
class Sample:
    """A picture that the adapter drew."""

    prompt: str
    seed: int
    file: Path


def write_card(folder: Path, subject: Subject, *, drawings: Path, repository: str | None, has_merged: bool) -> None:
    """Write README.md and images/ into an adapter's folder. Equal inputs make equal bytes.

    Args:
        drawings: where the evaluation keeps the pictures that it drew.
        repository: where the folder is going to be on the Hub, which the card's examples then load it from.
        has_merged: the folder holds a merged pipeline as well.
    """
    samples = find_samples(subject.evaluation, drawings) if subject.evaluation else []
    (folder / IMAGES).mkdir()
    if subject.evaluation:
        (folder / IMAGES / "grid.png").write_bytes(subject.evaluation.grid.read_bytes())
    for number, sample in enumerate(samples, start=1):
        open_picture(sample.file).save(folder / IMAGES / f"sample-{number}.png")  # without what is written in it
    if not any(visible((folder / IMAGES).iterdir(), folder)):
        remove_path(folder / IMAGES)
    text = card_text(subject, samples, repository=repository, has_merged=has_merged)
    (folder / CARD).write_text(text, encoding="utf-8")


def card_text(subject: Subject, samples: Sequence[Sample], *, repository: str | None, has_merged: bool) -> str:
    """The card: front matter and body."""
    manifest = read_manifest(subject.data.path) if subject.data else None
    trigger = _trigger(subject)
    licence = licence_of(subject.base.name)
    header = front_matter(subject, manifest, licence, trigger, samples)
    body = _template().render(
        s=subject,
        spec=subject.recipe.train,
        eval=subject.recipe.eval,
        title=_title(subject),
        base=public_name(subject.base.name),
        base_on_hub=_is_on_hub(subject),
        base_is_file=names_weights(subject.base.name),
        variant=subject.recipe.model.variant,
        clip=public_name(subject.recipe.eval.clip_model_name_or_path),
        licence=licence,
        trigger=trigger,
        manifest=manifest,
        source=_source(manifest.source) if manifest else "",
        place=repository or "path/to/this/folder",
        is_on_hub=repository is not None,
        has_merged=has_merged,
        samples=samples,
        prompt=samples[0].prompt if samples else trigger or "a product photo",
        kohya_file=KOHYA_FILE,
        finding=_finding(subject.evaluation.comparisons[0], subject.evaluation.undecided) if subject.evaluation else "",
        loss=_small(subject.training.loss_difference),
    )
    return f"---\n{header}\n---\n\n{body.strip()}\n"


def front_matter(
    subject: Subject,
    manifest: Manifest | None,
    licence: Licence,
    trigger: str | None,
    samples: Sequence[Sample],
) -> str:
    """YAML as the Hub reads it. Only models and data sets of the Hub are named: it takes no other for valid."""
    from huggingface_hub import ModelCardData

    values: dict[str, Any] = {"license": licence.id}
    if licence.id == "other":
        values |= {"license_name": _slug(licence.name), "license_link": licence.link}
    if _is_on_hub(subject):
        values |= {"base_model": subject.base.name, "base_model_relation": "adapter"}
    if manifest and manifest.source.get("kind") == "hub" and is_on_hub(str(manifest.source.get("name"))):
        values["datasets"] = [manifest.source["name"]]
    values |= {
        "library_name": "diffusers",
        "pipeline_tag": "text-to-image",
        "tags": _TAGS,
        "instance_prompt": trigger,
        "widget": [
            {"text": sample.prompt, "output": {"url": f"{IMAGES}/sample-{number}.png"}}
            for number, sample in enumerate(samples, start=1)
        ],
    }
    return ModelCardData(**{name: value for name, value in values.items() if value}).to_yaml()


def _is_on_hub(subject: Subject) -> bool:
    """The base came from the Hub; a folder here may have a name of the same form."""
    return is_on_hub(subject.base.name) and subject.base.commit is not None


def find_samples(evaluation: EvaluationReport, drawings: Path) -> list[Sample]:
    """A few of the pictures that the adapter drew for its evaluation, with different captions; none if they are gone.

    A set of pictures is recognised by the adapter, prompts and seeds that are written into them.
    """
    lines = evaluation.scores.read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["arm"] == "adapter"]
    chosen = _spread(list({row["caption"]: row for row in reversed(rows)}.values()))
    for folder in sorted(drawings.glob("[!.]*")):
        found = [Sample(row["caption"], row["seed"], folder / row["image"]) for row in chosen]
        if all(_is_of(sample, evaluation.adapter_sha256) for sample in found):
            return found
    return []


def common_beginning(captions: Sequence[str]) -> str | None:
    """The words that all captions begin with, where there are at least three: what calls the adapter up."""
    shared: list[str] = []
    for words in zip(*(caption.split() for caption in captions), strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    text = re.sub(r"[\s,;:]+$", "", " ".join(shared))
    return text if len(shared) >= _WORDS_OF_A_TRIGGER and len(set(captions)) > 1 else None


def _spread(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Evenly chosen from rows in the order of their captions."""
    ordered = sorted(rows, key=lambda row: str(row["caption"]))
    count = min(MOST_SAMPLES, len(ordered))
    return [ordered[(2 * k + 1) * len(ordered) // (2 * count)] for k in range(count)]


def _is_of(sample: Sample, adapter: str) -> bool:
    from PIL import Image

    try:
        with Image.open(sample.file) as picture:
            known = dict(picture.info)
    except (OSError, SyntaxError):
        return False
    return (known.get("adapter"), known.get("prompt"), known.get("seed")) == (adapter, sample.prompt, str(sample.seed))


def _trigger(subject: Subject) -> str | None:
    if subject.data is None:
        return None
    return common_beginning(
        [record.caption for record in dataset.load_split(subject.data.path / "train", decode=False)]
    )


def _title(subject: Subject) -> str:
    name = subject.data.path.name.replace("_", " ") if subject.data else subject.recipe.name
    return f"{name[:1].upper()}{name[1:]}: LoRA for {public_name(subject.base.name)}"


def _finding(against_base: Comparison, undecided: str) -> str:
    if against_base.identical:
        return "It draws the same pictures as the base: no difference."
    if undecided or against_base.clip_score is None:
        return f"No verdict{f', because {undecided}' if undecided else ''}."
    if against_base.is_better:
        return "It draws the captions of photos that it has never seen better than the base."
    return (
        "It draws them worse than the base."
        if against_base.clip_score.high < 0
        else "No reliable difference was found."
    )


def _small(found: Interval | None) -> str:
    return "not known: too few validation photos" if found is None else found.text(4)


def _source(source: Mapping[str, Any]) -> str:
    """What may be told of where the photos came from: its name, kind, revision and filters."""
    name = source.get("name") or source.get("kind") or ""
    kind = source.get("kind")
    more = [
        *([str(kind)] if kind and kind != name else []),
        *(f"{key} {_as_text(source[key])}" for key in ("revision", "filters") if source.get(key)),
    ]
    return f"{name} ({'; '.join(more)})" if more else str(name)


def _as_text(value: Any) -> str:
    return ", ".join(f"{k} = {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def _cell(value: object) -> str:
    """Text that stays in its cell of a table, and is no markup."""
    flat = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", flat)


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters |= {"cell": _cell, "quoted": json.dumps}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))

"""The model card: front matter that the Hub takes, and the figures that were measured."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from shoes.publishing.card import Sample, card_text, common_beginning, find_samples, write_card
from shoes.publishing.licence import OPENRAIL_M
from shoes.publishing.subject import Subject, latest_evaluation
from shoes.reports import Interval

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"


@pytest.fixture
def subject(night) -> Subject:
    return Subject("training", night.recipe, night.models.base, night.data, night.training, night.evaluation)


def on_sd15(subject: Subject) -> Subject:
    base = subject.base.model_copy(update={"name": SD15, "commit": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"})
    return replace(subject, base=base)


def text(subject: Subject, samples=(), repository: str | None = None, has_merged: bool = False) -> str:
    return card_text(subject, samples, repository=repository, has_merged=has_merged)


def test_the_front_matter_of_an_adapter_of_stable_diffusion(subject: Subject) -> None:
    prompt = 'A "red" shoe: 50% off\n--- {really}, #1 | \u00e9'
    card = ModelCard(text(on_sd15(subject), [Sample(prompt, 7, Path("x.png"))]))
    data = card.data.to_dict()
    assert data["license"] == "creativeml-openrail-m"
    assert (data["base_model"], data["base_model_relation"]) == (SD15, "adapter")
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert {"lora", "stable-diffusion", "text-to-image", "diffusers-training"} <= set(data["tags"])
    assert data["instance_prompt"] == "A professional product photo of"
    assert data["widget"] == [{"text": prompt, "output": {"url": "images/sample-1.png"}}]


def test_an_unknown_base_has_its_own_licence(subject: Subject) -> None:
    other = replace(subject, base=subject.base.model_copy(update={"name": "someone/model"}))
    data = ModelCard(text(other)).data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "the-licence-of-someone-model"
    assert data["license_link"] == "https://huggingface.co/someone/model"
    local = replace(subject, base=subject.base.model_copy(update={"name": "/home/me/model"}))
    found = text(local)
    assert "base_model" not in ModelCard(found).data.to_dict(), "the Hub takes names of its own models only"
    assert "/home/me" not in found


def test_the_figures_are_those_of_the_reports(subject: Subject) -> None:
    found = text(subject)
    comparison = subject.evaluation.comparisons[0]
    assert f"| adapter − base | {comparison.clip_score} | {comparison.clip_image_similarity} |" in found
    for arm in subject.evaluation.arms[:-1]:
        assert f"| {arm.name} | {arm.num_images} | {arm.clip_score:.2f} |" in found
    for split in subject.data.splits:
        assert f"| {split.name} | {split.num_images} | {split.num_captions} |" in found
    loss = subject.training.loss_difference
    assert loss.text(4) in found
    assert "data/demo/clip" in found
    assert f"step {subject.training.chosen_step} has the lowest" in found


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (1.0, 3.0, "better than the base"),
        (-3.0, -1.0, "draws them worse than the base"),
        (-1.0, 3.0, "No reliable difference"),
    ],
)
def test_the_finding_is_what_the_interval_says(subject: Subject, low: float, high: float, sentence: str) -> None:
    score = Interval(mean=(low + high) / 2, low=low, high=high, level=0.95, num_clusters=9, num_values=9)
    first = subject.evaluation.comparisons[0].model_copy(update={"clip_score": score, "identical": False})
    assert sentence in text(
        replace(subject, evaluation=subject.evaluation.model_copy(update={"comparisons": (first,)}))
    )
    same = first.model_copy(update={"identical": True})
    changed = subject.evaluation.model_copy(update={"comparisons": (same,)})
    assert "no difference" in text(replace(subject, evaluation=changed))


def test_the_restrictions_of_openrail_pass_on(subject: Subject) -> None:
    found = text(on_sd15(subject), has_merged=True)
    assert OPENRAIL_M.link in found
    assert "use restrictions (Attachment A) hold for the adapter, for the merged pipeline and" in found
    assert "Attachment A" not in text(subject), "the demo's model has no such licence"


def test_examples_load_from_where_the_card_is(subject: Subject) -> None:
    here, there = text(subject, has_merged=True), text(subject, repository="owner/shoes", has_merged=True)
    for found, place in ((here, "path/to/this/folder"), (there, "owner/shoes")):
        assert f'load_lora_weights("{place}", weight_name="pytorch_lora_weights.safetensors")' in found
        for code in re.findall(r"```python\n(.*?)```", found, re.DOTALL):
            compile(code, "card", "exec")
    assert "path/to/this/folder" not in there
    assert "### Merged" not in text(subject)


def test_without_data_and_evaluation(subject: Subject) -> None:
    found = text(replace(subject, data=None, evaluation=None))
    assert "no longer at hand" in found
    assert "not scored yet" in found
    assert "images/" not in found
    ModelCard(found)


def test_nothing_of_the_data_breaks_the_body(subject: Subject, tmp_path: Path) -> None:
    odd = subject.data.model_copy(update={"notes": ("left out: a|b\n# <b>x</b>",)})
    assert r"- left out: a\|b # \<b\>x\</b\>" in text(replace(subject, data=odd))


def test_pictures_are_the_evaluations_own(subject: Subject, night, tmp_path: Path) -> None:
    drawings = night.data_dir / "cache/drawings"
    samples = find_samples(subject.evaluation, drawings)
    assert len(samples) == len({sample.prompt for sample in samples}) == 4
    write_card(tmp_path, subject, drawings=drawings, repository=None, has_merged=False)
    names = ["grid.png", "sample-1.png", "sample-2.png", "sample-3.png", "sample-4.png"]
    assert sorted(file.name for file in (tmp_path / "images").iterdir()) == names
    assert (tmp_path / "images/grid.png").read_bytes() == subject.evaluation.grid.read_bytes()
    card = (tmp_path / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert [item["output"]["url"] for item in header["widget"]] == [f"images/{name}" for name in names[1:]]
    other = subject.evaluation.model_copy(update={"adapter_sha256": "0" * 64})
    assert find_samples(other, drawings) == [], "those of another adapter are not taken"
    assert find_samples(subject.evaluation, tmp_path) == [], "the cache may be deleted"


def test_an_evaluation_is_found_by_its_adapter(night) -> None:
    run, adapter = night.training.run_dir, night.training.adapter_sha256
    assert latest_evaluation(run, adapter) == night.evaluation
    assert latest_evaluation(run, "0" * 64) is None


@pytest.mark.parametrize(
    ("captions", "beginning"),
    [
        (["a photo of red shoes", "a photo of blue shoes"], "a photo of"),
        (["a photo of, red", "a photo of, blue"], "a photo of"),
        (["a red shoe", "a blue shoe"], None),
        (["one caption for all"] * 2, None),
        ([], None),
    ],
)
def test_what_all_captions_begin_with(captions: list[str], beginning: str | None) -> None:
    assert common_beginning(captions) == beginning

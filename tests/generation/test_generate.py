"""`shoes generate`: each picture once, resumed, never mixed with others, and honest about blank ones."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from shoes import sampling
from shoes.evaluation.pictures import open_picture
from shoes.generation import text
from shoes.generation.folder import slug
from shoes.settings import PROJECT_ROOT
from tests.champion import crown
from tests.generation.conftest import PROMPT

PROMPTS = ("red shoes", "blue shoes", "green shoes", "white shoes")
BASE = ("--adapter", "none")


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("0*.png"))


def test_prompts_become_pictures_with_names_that_say_what_they_are(report, own_world: Path) -> None:
    found = report("red shoes", "blue shoes", *BASE, "--seed", 7, "--images-per-prompt", 2, "--out", "here")
    folder = own_world / "here"
    assert pngs(folder) == [
        "0001-red-shoes-s7.png",
        "0002-red-shoes-s8.png",
        "0003-blue-shoes-s9.png",
        "0004-blue-shoes-s10.png",
    ]
    assert found["path"] == str(folder)
    assert found["num_drawn"] == 4
    assert found["good"] is True
    lines = [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]
    assert lines == found["pictures"]
    assert [(line["prompt"], line["seed"]) for line in lines][2] == ("blue shoes", 9)
    assert open_picture(folder / "index.png").width > 4 * 176
    assert not list(folder.glob(".partial-*"))


def test_the_folder_of_its_own_is_named_by_what_decides_the_pictures(in_night, report) -> None:
    folders = {report("red shoes", *BASE, *words)["path"] for words in ((), ("--seed", 8), ("--guidance", 3), ())}
    assert len(folders) == 3
    assert all(Path(folder).parent == in_night.data_dir / "generated" for folder in folders)
    assert all(Path(folder).name.startswith("demo-") for folder in folders)


def test_options_win_over_the_recipe_which_fills_the_rest(in_night, report) -> None:
    words = ("--steps", 3, "--scheduler", "euler", "--resolution", 72, "--negative-prompt", "none")
    sampling_of = report("red shoes", *BASE, *words)["plan"]["sampling"]
    assert sampling_of == {
        "num_inference_steps": 3,
        "scheduler": "euler",
        "resolution": 72,
        "negative_prompt": "none",
        "guidance_scale": in_night.recipe.eval.guidance_scale,
    }


def test_an_interrupted_run_goes_on_and_draws_each_picture_once(
    generate, report, drawn_seeds: list[int], own_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*PROMPTS, *BASE, "--seed", 0, "--batch", 1, "--out", "here")
    counted = sampling.draw_pixels

    def interrupted(pipeline, drawings, **how):
        if len(drawn_seeds) == 2:
            raise KeyboardInterrupt
        return counted(pipeline, drawings, **how)

    with monkeypatch.context() as patch:
        patch.setattr(sampling, "draw_pixels", interrupted)
        result = generate(*words)
    assert result.exit_code == 130
    assert "goes on from there" in result.stderr
    folder = own_world / "here"
    assert pngs(folder) == ["0001-red-shoes-s0.png", "0002-blue-shoes-s1.png"]
    assert len((folder / "images.jsonl").read_text().splitlines()) == 2
    (folder / ".partial-0003-green-shoes-s2.png-1").write_bytes(b"half")
    before = (folder / "0001-red-shoes-s0.png").stat().st_mtime_ns
    found = report(*words)
    assert found["num_drawn"] == 2
    assert drawn_seeds == [0, 1, 2, 3]
    assert (folder / "0001-red-shoes-s0.png").stat().st_mtime_ns == before
    assert not list(folder.glob(".partial-*"))
    whole = report(*words[:-1], "elsewhere")
    assert [one["sha256"] for one in whole["pictures"]] == [one["sha256"] for one in found["pictures"]]
    assert report(*words)["num_drawn"] == 0


def test_a_damaged_or_foreign_picture_is_drawn_again(report, own_world: Path) -> None:
    words = (*PROMPTS[:3], *BASE, "--out", "here")
    first = report(*words)
    files = [own_world / "here" / one["file"] for one in first["pictures"]]
    files[0].write_bytes(files[0].read_bytes()[:-200])
    shutil.copy(files[2], files[1])
    again = report(*words)
    assert again["num_drawn"] == 2
    sums = [[one["sha256"] for one in found["pictures"]] for found in (first, again)]
    assert sums[0][2] == sums[1][2]
    assert sums[1][1] != sums[1][2]
    assert json.loads((own_world / "here/images.jsonl").read_text().splitlines()[1])["prompt"] == PROMPTS[1]


def test_other_pictures_are_never_mixed_into_a_folder(generate, report, own_world: Path) -> None:
    report("red shoes", *BASE, "--out", "here")
    before = sorted((own_world / "here").iterdir())
    refused = generate("red shoes", *BASE, "--steps", 3, "--out", "here")
    assert refused.exit_code == 2
    assert "num_inference_steps 2 there, 3 now" in refused.stderr
    assert "use another --out" in refused.stderr
    assert "other pictures" in generate("blue shoes", *BASE, "--out", "here").stderr
    assert sorted((own_world / "here").iterdir()) == before
    (own_world / "photos").mkdir()
    (own_world / "photos/mine.png").write_bytes(b"mine")
    foreign = generate("red shoes", *BASE, "--out", "photos")
    assert foreign.exit_code == 2
    assert "holds other files (mine.png" in foreign.stderr
    assert [path.name for path in (own_world / "photos").iterdir()] == ["mine.png"]


def test_another_process_in_the_same_folder_is_said(generate, report, own_world: Path) -> None:
    from filelock import FileLock

    report("red shoes", *BASE, "--out", "here")
    with FileLock(own_world / "here/.lock"):
        result = generate("red shoes", *BASE, "--out", "here")
    assert result.exit_code == 1
    assert "Another process draws into" in result.stderr


def test_a_full_disk_is_one_clear_error(generate, own_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shoes.generation.metadata.write_bytes", no_room)
    result = generate("red shoes", *BASE, "--out", "here")
    assert result.exit_code == 1
    assert "is full. Make room; the same command then goes on" in result.stderr


def test_captions_of_a_split_are_unique_and_spread_evenly(in_night, report) -> None:
    from shoes.dataset import load_split

    captions = sorted({record.caption for record in load_split(in_night.data.path / "train", decode=False)})
    every = [one["prompt"] for one in report("--captions", "train", *BASE)["pictures"]]
    assert every == captions
    two = [one["prompt"] for one in report("--captions", "train", "--count", 2, *BASE)["pictures"]]
    assert two == [captions[len(captions) // 4], captions[3 * len(captions) // 4]]


@pytest.fixture
def nan_in_bf16(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A device that gives NaN for seed 1 in half precision; what was drawn, as (dtype, seed)."""
    real, seen = sampling.draw_pixels, []

    def draw(pipeline, drawings, **how):
        for pixels in real(pipeline, drawings, **how):
            batch = pixels.clone()
            seen.extend((str(pipeline.unet.dtype), drawing.seed) for drawing in drawings)
            for number, drawing in enumerate(drawings):
                if pipeline.unet.dtype == torch.bfloat16 and drawing.seed == 1:
                    batch[number, 0, 5, 5] = float("nan")
            yield batch

    monkeypatch.setattr(sampling, "draw_pixels", draw)
    return seen


def test_a_picture_with_nan_is_drawn_again_in_fp32(in_night, nan_in_bf16, own_world: Path) -> None:
    from shoes.generation.request import parse
    from shoes.generation.run import generate

    spec = in_night.recipe.train.model_copy(update={"mixed_precision": "bf16"})
    recipe = in_night.recipe.model_copy(update={"train": spec})
    request = parse({"prompts": PROMPTS[:3], "adapter": ("none",), "seed": 0, "batch": 2, "out": "here"})
    found = generate(recipe, request)
    half, full = "torch.bfloat16", "torch.float32"
    assert nan_in_bf16 == [(half, 0), (half, 1), (half, 2), (full, 1)]
    assert [one.precision for one in found.pictures] == ["bf16", "no", "bf16"]
    assert found.is_good
    assert "In fp32, because bf16 gave nothing to see: 0002-blue-shoes-s1.png" in text.generated(found)
    assert generate(recipe, request).num_drawn == 0, "the one in fp32 counts"


def test_nothing_is_said_of_pictures_that_show_something(generate) -> None:
    result = generate("orange shoes", *BASE)
    assert result.exit_code == 0
    assert "Not good" not in result.stdout
    assert "1 picture: 1 drawn now" in result.stdout
    assert "none: the base model alone" in result.stdout
    assert "all of them there already" in generate("orange shoes", *BASE).stdout


@pytest.fixture
def blank_model(own_world: Path) -> str:
    """The tiny model whose VAE gives one grey."""
    from safetensors.torch import load_file, save_file

    folder = own_world / "blank"
    shutil.copytree(PROJECT_ROOT / "data/demo/model", folder, ignore=shutil.ignore_patterns("manifest.json"))
    file = folder / "vae/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_out.weight"].zero_()
    weights["decoder.conv_out.bias"].zero_()
    save_file(weights, file)
    return str(folder)


def test_pictures_that_stay_blank_are_said_and_tried_again(
    generate, drawn_seeds: list[int], blank_model: str, own_world: Path
) -> None:
    words = ("red shoes", *BASE, "--seed", 5, "--out", "here", "--model.pretrained_model_name_or_path", blank_model)
    result = generate(*words)
    assert result.exit_code == 1
    assert "[BLANK] 0001-red-shoes-s5.png" in result.stdout
    assert "Not good: these show nothing, even in fp32" in result.stdout
    assert drawn_seeds == [5], "in fp32 a second try would be the same"
    found = json.loads(generate(*words, "--json").stdout)
    assert found["good"] is False
    assert drawn_seeds == [5, 5]
    assert [one["verdict"] for one in found["pictures"]] == ["blank"]


def test_the_champion_draws_unless_another_is_named(in_night, report) -> None:
    crown(in_night)
    adapter = report(PROMPT)["plan"]["adapters"][0]
    assert adapter["sha256"] == in_night.training.adapter_sha256
    assert adapter["name"].startswith("casual-shoes-lora-demo version ")
    trained = report(PROMPT, "--adapter", "trained")
    assert trained["plan"]["adapters"][0]["name"] == "trained demo"
    assert trained["num_drawn"] == 0, "the same weights: the pictures are there"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Ein Schuh, größer: ÄÖ!", "ein-schuh-groer-ao"),
        ("../../etc/passwd", "etc-passwd"),
        ("靴", "picture"),
        ("word " * 30, "-".join(["word"] * 9)),
        ("x" * 99, "x" * 48),
    ],
)
def test_slugs(prompt: str, expected: str) -> None:
    assert slug(prompt) == expected

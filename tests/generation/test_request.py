"""What a request says: prompts from everywhere, and everything that is wrong with it at once."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main
from shoes.errors import ConfigurationError
from shoes.generation.prompts import Prompt, plan_pictures, read_file
from shoes.generation.request import parse


def test_a_text_file_has_a_prompt_a_line(own_world: Path) -> None:
    file = own_world / "prompts.txt"
    file.write_text("\ufeffa red shoe \n\n# not this\n  ein Schuh, größer\n", encoding="utf-8")
    assert read_file(file) == [Prompt("a red shoe"), Prompt("ein Schuh, größer")]


@pytest.mark.parametrize("name", ["prompts.json", "prompts.jsonl"])
def test_json_may_give_each_prompt_a_seed(own_world: Path, name: str) -> None:
    entries = [{"prompt": "a red shoe", "seed": 9}, {"prompt": "a blue shoe"}, "a green shoe"]
    lines = "\n".join(map(json.dumps, entries))
    (own_world / name).write_text(json.dumps(entries) if name.endswith("json") else lines)
    prompts = read_file(own_world / name)
    assert prompts == [Prompt("a red shoe", 9), Prompt("a blue shoe"), Prompt("a green shoe")]
    pictures = plan_pictures(prompts, 100, 2)
    assert [picture.seed for picture in pictures] == [9, 10, 102, 103, 104, 105]


BAD_FILES = {
    "lines.jsonl": (
        '{"prompt": "good"}\n{"seed": 1}\n{"prompt": "x", "steps": 3}\n{"prompt": "x", "seed": -1}\n{not json\n'
        '{"prompt": "x", "seed": true}\n',
        [":2", ":3", "steps", ":4", "-1", ":5", "is not JSON", ":6"],
    ),
    "list.json": ('[{"prompt": ""}, 7, {"prompt": "x", "seed": 1.5}]', ["entry 1", "entry 2", "entry 3"]),
    "object.json": ('{"prompt": "x"}', ["is no list"]),
    "empty.txt": ("# nothing\n\n", ["holds no prompt"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_every_line_that_is_wrong_is_named(own_world: Path, name: str) -> None:
    content, expected = BAD_FILES[name]
    (own_world / name).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read_file(own_world / name)
    for words in expected:
        assert words in str(caught.value)
    assert ":1:" not in str(caught.value)


def test_a_file_that_is_missing_or_binary_is_said(own_world: Path) -> None:
    (own_world / "binary.txt").write_bytes(b"\xff\xfe\x00")
    for name, words in (("nowhere.txt", "No such file"), ("binary.txt", "no UTF-8"), (".", "directory")):
        with pytest.raises(ConfigurationError, match=words):
            read_file(own_world / name)


def test_everything_that_is_wrong_is_one_error_and_leaves_nothing_behind(own_world: Path) -> None:
    words = ["a shoe", "--captions", "tset", "--steps", "0", "--guidance", "nan", "--scheduler", "magic"]
    words += ["--resolution", "65", "--seed", "-1", "--stepz", "5", "--adapter", "champion=x", "--json"]
    words += ["--train.device", "mps"]
    result = CliRunner().invoke(main, ["generate", *words])
    assert result.exit_code == 2
    problems = json.loads(result.stdout)["problems"]
    where = [problem["where"] for problem in problems]
    options = ["--captions", "--steps", "--guidance", "--scheduler", "--resolution", "--seed", "--stepz"]
    for name in [*options, "prompts", "--adapter champion=x", "train.device"]:
        assert name in where, name
    assert all(problem["fix"] for problem in problems)
    assert list(own_world.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "there is nothing to draw"),
        ({"prompts": ("a",), "prompts_file": "b.txt"}, "prompts on the line and --prompts at once"),
        ({"prompts": ("a",), "count": "3"}, "give --captions test with it"),
        ({"prompts": (" ",)}, "is empty"),
        ({"image": "a.png", "prompts": ("a",), "steps": "3"}, "not from PROMPT, --steps"),
        ({"image": "a.png", "adapter": ("x", "champion")}, "--adapter champion: means nothing beside --from"),
    ],
)
def test_sources_that_do_not_go_together(given: dict, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        parse(given)


def test_only_the_place_and_adapters_go_with_a_picture() -> None:
    assert parse({"image": "a.png", "out": "x", "adapter": ("y",)}).image == Path("a.png")


def test_a_split_that_is_not_there_is_said() -> None:
    result = CliRunner().invoke(main, ["generate", "--captions", "test", "--data.dataset_dir", "data/nowhere"])
    assert result.exit_code == 2
    assert "there is no data set" in result.stderr

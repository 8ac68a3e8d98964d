"""docs/setup-mac.md: every command and every field that it names is there."""

import re

import pytest
from click.testing import CliRunner

from flows.cli import main
from shoes import recipes
from shoes.settings import PROJECT_ROOT

GUIDE = (PROJECT_ROOT / "docs/setup-mac.md").read_text(encoding="utf-8")
COMMANDS = sorted(
    set(re.findall(r"\bshoes ((?:data|model|schedule|service) \w+|check|forecast|run|up)((?: --[a-z]+)*)", GUIDE))
)


@pytest.mark.parametrize(("command", "options"), COMMANDS)
def test_every_command_is_there(command: str, options: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output
    for option in options.split():
        assert option in result.output


def test_every_field_is_a_field() -> None:
    sections = "|".join({name.partition(".")[0] for name in recipes.fields() if "." in name})
    named = set(re.findall(rf"\b((?:{sections})\.[a-z_0-9]+)", GUIDE))
    assert len(named) >= 8
    assert named <= recipes.fields().keys()


def test_every_make_target_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        words.split()[-1] for words in re.findall(r"(?:^ {4,}|`)make ((?:PYTHON=\S+ )?[a-z-]+)", GUIDE, re.MULTILINE)
    }
    assert named == {"setup", "demo"}
    assert named <= targets

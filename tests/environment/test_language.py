"""Portuguese: the catalogue is complete, and so is the report."""

import ast
import json
from pathlib import Path
from string import Formatter

import pytest
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from click.testing import CliRunner

from flows.cli import main
from shoes import language, recipes
from shoes.device import DeviceFacts, decide
from shoes.environment import verify
from shoes.environment.check import Finding
from shoes.environment.text import text
from shoes.reports import CheckResult, EnvironmentReport
from shoes.settings import PROJECT_ROOT, load_settings
from shoes.spec import TrainSpec

SOURCES = PROJECT_ROOT / "shoes"
CATALOGUE = language.FOLDER / "pt_BR/LC_MESSAGES/shoes.po"
SAME_IN_BOTH = {"OK", "INFO", "Python", "PyTorch", "Accelerate", "PEFT (LoRA)", "Prefect", "MLflow", "status"}
"""Names, and words that both languages share."""


def messages(catalogue: object) -> dict[object, object]:
    return {frozen(message.id): message for message in catalogue if message.id}


def frozen(value: object) -> object:
    """Babel gives plural forms now as a list, now as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else value


@pytest.fixture(scope="module")
def translated() -> dict[object, object]:
    with CATALOGUE.open("rb") as file:
        return messages(read_po(file, locale="pt_BR"))


def placeholders(message: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(message) if name is not None}


def test_every_text_of_the_sources_is_in_the_catalogue(translated: dict[object, object]) -> None:
    keywords = {**DEFAULT_KEYWORDS, "mark": None}
    found = {message for _, _, message, _, _ in extract_from_dir(str(SOURCES), keywords=keywords)}
    missing, left_over = found - translated.keys(), translated.keys() - found
    assert not missing, "run `make translations` and translate these"
    assert not left_over, "run `make translations`"


def test_every_text_is_translated_with_its_placeholders(translated: dict[object, object]) -> None:
    for identity, message in translated.items():
        originals = identity if isinstance(identity, tuple) else (identity,)
        texts = message.string if isinstance(identity, tuple) else (message.string,)
        assert len(texts) == len(originals)
        assert all(texts), identity
        assert not message.fuzzy, identity
        for one in texts:
            assert placeholders(one) == placeholders(originals[-1]), identity
        assert set(texts) - set(originals) or originals[0] in SAME_IN_BOTH, f"{identity} is still English"


def test_what_is_read_at_run_time_was_made_of_it(translated: dict[object, object]) -> None:
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        compiled = messages(read_mo(file))
    assert {k: frozen(m.string) for k, m in compiled.items()} == {k: frozen(m.string) for k, m in translated.items()}, (
        "run `make translations`"
    )


def test_no_text_hides_in_an_f_string() -> None:
    """Babel does not look there on every Python."""
    hidden = [
        f"{file.name}:{call.lineno}"
        for file in SOURCES.rglob("*.py")
        for string in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(string, ast.JoinedStr)
        for call in ast.walk(string)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("_", "gettext", "ngettext")
        if isinstance(call.args[0], ast.Constant)
    ]
    assert hidden == []


def report_lines(report: EnvironmentReport, decisions: tuple[object, ...]) -> set[str]:
    shown = text(report, recipe_words="--recipe demo", dataset_dir=Path("/nowhere"), decisions=decisions, width=110)
    return {line.strip() for line in shown.splitlines() if line.strip()}


def is_technical(line: str) -> bool:
    """Versions, paths, commands, settings and names alone: nothing that one would translate."""
    words = line.replace("[OK]", "").replace("[INFO]", "").strip()
    signs = ("/", "shoes ", " = ", "_steps")
    names = any(words == name or (words.startswith(f"{name} ") and "  [" in words) for name in SAME_IN_BOTH)
    versions = all(any(c.isdigit() for c in part) for part in words.split(", "))
    return names or versions or any(sign in words for sign in signs) or words[:2] in ("1.", "2.", "3.", "4.")


def test_a_portuguese_report_has_no_english_line(good_report: EnvironmentReport, monkeypatch) -> None:
    monkeypatch.setenv("SHOES_DATA_DIR", str(Path(good_report.checks[11].detail)))
    recipe = recipes.load("demo")
    facts = DeviceFacts(mps=True, mps_built=True, device_name="Apple M2 Max", system="Darwin", macos_version="15.1")
    with language.use("pt"):
        portuguese = report_lines(verify(recipe, load_settings()), decide(recipe.train, facts))
    english = report_lines(good_report, decide(recipe.train, facts))
    assert len(portuguese) > 40
    assert {line for line in portuguese & english if not is_technical(line)} == set()
    for word in (
        "Pronto para treinar",
        "Resumo",
        "Próximos passos",
        "Decisões",
        "GB livres",
        "cada arquivo verificado",
    ):
        assert any(word in line for line in portuguese), word


@pytest.mark.parametrize(
    ("facts", "spec"),
    [
        (DeviceFacts(cuda=True, cuda_capability=(8, 0), device_name="A100", device_memory_bytes=2**35), {}),
        (DeviceFacts(cuda=True, cuda_capability=(7, 5), device_name="T4", device_memory_bytes=2**34), {}),
        (DeviceFacts(mps=True, mps_built=True, device_name="Apple M1", total_memory_bytes=2**33), {}),
        (DeviceFacts(mps=True, macos_version="15.0", device_name="Apple M2"), {"mixed_precision": "bf16"}),
        (DeviceFacts(device_name="x86_64", total_memory_bytes=2**34), {"mixed_precision": "bf16"}),
    ],
)
def test_every_reason_is_translated(facts: DeviceFacts, spec: dict[str, object]) -> None:
    english = decide(TrainSpec.model_validate(spec), facts)
    with language.use("pt"):
        portuguese = decide(TrainSpec.model_validate(spec), facts)
    for one, other in zip(english, portuguese, strict=True):
        assert (one.name, one.value) == (other.name, other.value)
        assert one.reason != other.reason


def test_failures_are_translated_too(changed) -> None:
    def bad(situation: object) -> Finding:
        raise ModuleNotFoundError(name="psutil")

    checks = [check for check in changed("Memory", find=bad) if check.name in ("Memory", "Disk")]
    with language.use("pt"):
        report = verify(recipes.load("demo"), load_settings(), checks=checks)
    assert report.checks[0].detail == "psutil não está instalado"
    assert report.checks[0].name == "Memory", "machines know it by this name"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "pt_BR.UTF-8"}, "pt"),
        ({"LANG": "pt_BR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "pt_PT"}, "pt"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
    ],
)
def test_the_language_is_the_locale_s(environment: dict[str, str], expected: str) -> None:
    assert language.from_locale(environment) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("pt", "pt"), ("pt_BR", "pt"), ("PT-br", "pt"), ("en", "en"), ("x", None)]
)
def test_names_of_languages(name: str, expected: str | None) -> None:
    assert language.parse(name) == expected


def test_numbers_are_written_as_the_language_writes_them() -> None:
    assert language.number(1234.56) == "1,234.6"
    with language.use("pt"):
        assert language.number(1234.56) == "1.234,6"
        assert (
            language.ngettext("{count} problem: {where}", "{count} problems, the first: {where}", 1)[:9] == "{count} p"
        )
    assert language.current() == "en"


def test_json_is_english_unless_a_language_is_asked_for(monkeypatch: pytest.MonkeyPatch, quick_checks) -> None:
    few = [check for check in quick_checks if check.name in ("Memory", "Power and sleep")]
    monkeypatch.setitem(verify.__kwdefaults__, "checks", few)
    monkeypatch.setenv("LC_ALL", "pt_BR.UTF-8")

    def shown(*words: str) -> str:
        return CliRunner().invoke(main, ["check", *words]).stdout

    assert "available" in json.loads(shown("--json"))["checks"][0]["detail"]
    assert "Pronto para treinar" in shown()
    assert "Ready for training" in shown("--lang", "en")
    asked = json.loads(shown("--json", "--lang", "pt_BR"))["checks"][0]
    assert (asked["name"], "disponíveis" in asked["detail"]) == ("Memory", True)
    assert CheckResult.model_validate(asked).status in ("OK", "INFO", "WARN")

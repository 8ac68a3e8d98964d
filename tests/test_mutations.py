"""The mutations that measure this suite are faults that can be put into the code as it is."""

import ast
import shutil
from pathlib import Path

import pytest

from benchmarks.mutants import generated
from benchmarks.mutants.catalogue import ROOT, load
from benchmarks.mutants.reach import in_functions
from benchmarks.mutants.trial import failed_in, find, planted

ALL = load("chosen", "drawn")


def test_there_are_enough_of_both_kinds_over_all_packages() -> None:
    kinds = [one.kind for one in ALL]
    assert len(ALL) >= 60
    assert min(kinds.count("chosen"), kinds.count("drawn")) >= 30
    packages = {generated.package_of(file) for file in generated.files()}
    assert packages == {generated.package_of(one.file) for one in ALL}
    assert len({one.name for one in ALL}) == len(ALL)


def test_every_mutation_changes_one_place_and_leaves_python() -> None:
    for one in ALL:
        text = (ROOT / one.file).read_text(encoding="utf-8")
        changed = ast.dump(ast.parse(one.applied(text)))
        assert changed != ast.dump(ast.parse(text)), one.name


def test_what_is_drawn_is_the_same_for_one_seed() -> None:
    assert generated.draw(5, seed=1) == generated.draw(5, seed=1) != generated.draw(5, seed=2)


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the first mutation's file, in a project of its own: other tests run the real one now."""
    file = tmp_path / ALL[0].file
    file.parent.mkdir(parents=True)
    shutil.copy(ROOT / ALL[0].file, file)
    monkeypatch.setattr("benchmarks.mutants.trial.ROOT", tmp_path)
    return file


def test_a_fault_is_taken_out_again_whatever_happens(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.mutants.trial.has_changes", lambda file: False)
    before, written, one = copy.read_bytes(), copy.stat().st_mtime, ALL[0]

    def interrupted() -> None:
        with planted(one):
            assert copy.read_text(encoding="utf-8") == one.applied(before.decode())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (copy.read_bytes(), copy.stat().st_mtime) == (before, written)


def test_a_file_with_changes_is_left_alone(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.mutants.trial.has_changes", lambda file: True)
    before = copy.read_bytes()
    with pytest.raises(SystemExit, match="has changes"), planted(ALL[0]):
        pass
    assert copy.read_bytes() == before


def test_the_test_that_found_it_before_is_asked_first_and_one_that_always_fails_finds_nothing(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.mutants.trial.has_changes", lambda file: False)
    asked: list[str] = []
    sound = copy.read_text(encoding="utf-8")

    def first_failure(words: list[str]) -> str:
        """`good` fails with the fault alone; `bad` always."""
        asked.extend(words)
        is_sound = copy.read_text(encoding="utf-8") == sound
        return words[0] if words == ["bad"] or not is_sound else ""

    monkeypatch.setattr("benchmarks.mutants.trial._first_failure", first_failure)
    found = find(ALL[0], None, first="good", whole_suite=False)
    assert (found.caught_by, found.round) == ("good", "found it before")
    assert find(ALL[0], None, first="bad", whole_suite=False).caught_by == ""
    assert asked == ["good", "good", "bad", "bad"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("FAILED tests/test_a.py::test_b", "tests/test_a.py::test_b"),
        ("FAILED tests/test_a.py::test_b[in two words] - assert 1 == 2", "tests/test_a.py::test_b[in two words]"),
        ("ERROR tests/test_a.py::test_b[a-b] - OSError: a - b", "tests/test_a.py::test_b[a-b]"),
        ("1 failed, 2 passed", ""),
    ],
)
def test_the_test_that_failed_is_read_from_what_pytest_says(line: str, name: str) -> None:
    assert failed_in(f"..F\n{line}\n") == name


def test_a_constant_of_a_module_is_not_in_a_function() -> None:
    by_name = {one.name: one for one in ALL}
    assert not in_functions(by_name["a wrong export passes its proof"])
    assert in_functions(by_name["one recovery more than allowed"])

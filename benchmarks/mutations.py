"""What the tests catch: faults put into the code one by one, and the test that finds each.

    python benchmarks/mutations.py [NAME …] [--kind chosen|drawn] [--tests PATH …] [--again] [--results FILE]
                                   [--reached-only] [--first FILE]
    python benchmarks/mutations.py --list
    python benchmarks/mutations.py --measure
    python benchmarks/mutations.py --draw COUNT --seed SEED
    python benchmarks/mutations.py --quick

`benchmarks/mutants/chosen.toml` has the faults that would hurt most, `drawn.toml` those that a seed has drawn from all
that a few rules make of the code. They are fixed: a suite that is made faster has to find as many as before. NAME is a
part of a mutation's name.

First the suite runs once, under coverage.py, to see which test runs which line (`--measure` does only that; what it
found is kept in build/mutants until it is asked for again). Then the tests that run a mutated line are asked, the
quickest first, and in the end the whole suite. The test that fails is run again without the fault, so that one which
fails by chance counts for nothing. Results are appended to --results; mutations that stand there are not tried again,
but with --again. With --tests only those tests are asked, and only mutations that they run are tried. With
--reached-only the whole suite, which takes minutes, is not asked: a mutation that no test finds which runs its lines
counts as not found. With --first, results of an earlier run, of another commit say, the test that found a mutation
there is asked first, and where no reach was measured here, it alone. Prints one JSON line last.

The faults are put into the project's own files, one at a time, and taken out again; a file with changes of your own is
left alone.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from mutants import catalogue, generated, reach, trial
from mutants.catalogue import Kind, Mutation
from mutants.reach import Reach

RESULTS = Path("benchmarks/mutations.results.jsonl")
QUICK = ("tests/test_storage.py", "tests/training/test_randomness.py")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--kind", choices=("chosen", "drawn"))
    parser.add_argument("--tests", nargs="+", default=[], metavar="PATH")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--reached-only", action="store_true")
    parser.add_argument("--first", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--draw", type=int, metavar="COUNT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.draw:
        print(_draw(given.draw, given.seed))
        return
    mutations = _chosen(given.names, given.kind)
    if given.list:
        print("\n".join(f"{one.kind:<7} {one.file:<42} {one.name}" for one in mutations))
    elif given.quick:
        _quick(mutations)
    elif given.measure:
        print(json.dumps({"line_coverage": reach.measure(given.tests).line_shares()}))
    elif given.tests:
        with tempfile.TemporaryDirectory() as folder:
            found = reach.measure(given.tests, Path(folder))
            reached = [one for one in mutations if found.tests(one)]
            _run(reached, found, given.results, again=given.again, whole_suite=False)
    elif given.first:
        first = {name: test for name, test in _read(given.first).items() if test}
        whole_suite = bool(reach.kept()) and not given.reached_only
        _run(mutations, reach.kept(), given.results, first, again=given.again, whole_suite=whole_suite)
    else:
        found = reach.kept() or reach.measure()
        _run(mutations, found, given.results, again=given.again, whole_suite=not given.reached_only)


def _draw(count: int, seed: int) -> Path:
    comment = f"Drawn by `python benchmarks/mutations.py --draw {count} --seed {seed}`; fixed from then on."
    return catalogue.keep_drawn(generated.draw(count, seed), comment)


def _chosen(names: Sequence[str], kind: Kind | None) -> list[Mutation]:
    found = catalogue.load(*([kind] if kind else ["chosen", "drawn"]))
    return [one for one in found if not names or any(name in one.name for name in names)]


def _quick(mutations: Sequence[Mutation]) -> None:
    """A few mutations and the tests of their modules."""
    with tempfile.TemporaryDirectory() as folder:
        found = reach.measure(QUICK, Path(folder))
        reached = [one for one in mutations if found.tests(one)][:3]
        _run(reached, found, Path(folder) / "results.jsonl", again=True, whole_suite=False)


def _run(
    wanted: Sequence[Mutation],
    found: Reach | None,
    results: Path,
    first: Mapping[str, str] = MappingProxyType({}),
    *,
    again: bool,
    whole_suite: bool,
) -> None:
    done = {} if again else _read(results)
    for number, one in enumerate(wanted, start=1):
        if one.name in done:
            continue
        finding = trial.find(one, found, first=first.get(one.name, ""), whole_suite=whole_suite)
        with results.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(asdict(finding), ensure_ascii=False)}\n")
        done[one.name] = finding.caught_by
        print(f"{number:>3} of {len(wanted)}  {one.name}\n    {finding.caught_by or 'NOT FOUND'}", flush=True)
    told = {one.name: done[one.name] for one in wanted}
    missed = [name for name, test in told.items() if not test]
    counts = {"mutations": len(told), "found": len(told) - len(missed), "not_found": missed}
    print(json.dumps(counts, ensure_ascii=False))


def _read(results: Path) -> dict[str, str]:
    """By mutation, the test that has found it."""
    if not results.is_file():
        return {}
    entries = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    return {entry["mutation"]: entry["caught_by"] for entry in entries}


if __name__ == "__main__":
    main()

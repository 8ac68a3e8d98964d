"""Make the demo's models and data set from a downloaded catalogue.

    python -m demo.make --catalogue DIR [--quick] [--work DIR] [--target DIR]

Stages that are done are skipped, and a killed stage goes on from its last checkpoint: start it again. What
comes out replaces the shipped assets only if it compares better (see demo/compare.py); exit 1 if not.
"""

import argparse
import logging
import sys
from pathlib import Path

from demo.plan import FULL, QUICK, Plan

WORK = Path("data/demo-work")
TARGET = Path("data/demo")


def add_places(parser: argparse.ArgumentParser) -> None:
    """Options that say where and how big."""
    parser.add_argument("--work", type=Path, default=WORK, help=f"where everything is made ({WORK})")
    parser.add_argument("--target", type=Path, default=TARGET, help=f"the shipped assets ({TARGET})")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to test the scripts")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "mps", "cuda"])


def parse(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalogue", type=Path, required=True, help="the folder with styles.csv and images/")
    add_places(parser)
    parser.add_argument("--base", type=Path, help="a Stable Diffusion to start from instead of training one")
    parser.add_argument("--clip", type=Path, help="a CLIP to judge with instead of training one")
    parser.add_argument("--keep-shipped", action="store_true", help="compare, but install nothing")
    return parser.parse_args(words)


def plan_of(arguments: argparse.Namespace) -> Plan:
    """How much is trained."""
    return QUICK if arguments.quick else FULL


def choose_device(choice: str) -> str:
    """An accelerator if there is one and none was named."""
    import torch

    if choice != "auto":
        return choice
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def start_logging() -> None:
    """Plain lines with a clock, for a log that is read in the morning."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("demo").setLevel(logging.INFO)


def main(words: list[str] | None = None) -> int:
    """Make everything, compare, install."""
    arguments = parse(words)
    start_logging()
    from demo.assets import make_assets
    from demo.card import MADE_HERE
    from demo.compare import finish
    from demo.stages import Workshop

    plan = plan_of(arguments)
    workshop = Workshop(arguments.work.resolve(), choose_device(arguments.device))
    new = make_assets(workshop, arguments.catalogue, plan, arguments.base, arguments.clip)
    # What a few steps made is never better, only newer.
    may_install = not (arguments.keep_shipped or arguments.quick)
    given = [f"`--{name}`" for name in ("base", "clip") if vars(arguments)[name] is not None]
    made_from = f"Given to `python -m demo.make` as {' and '.join(given)}; the rest it made." if given else MADE_HERE
    fault = finish(workshop, new, arguments.target, plan, made_from, may_install=may_install)
    return 0 if arguments.quick else fault


if __name__ == "__main__":
    sys.exit(main())

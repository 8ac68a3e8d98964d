"""The checks: one function each, found by the registry that `check` fills.

A check returns what it found. It may raise: `verify` turns that into a failed line.
"""

import importlib.metadata
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shoes.device import choose_device, measure
from shoes.settings import Settings
from shoes.spec import Recipe

GIGABYTE = 1024**3


@dataclass(frozen=True)
class Finding:
    """What a check found; an empty `fix` means that nothing needs doing."""

    status: str
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Check:
    """A named check."""

    name: str
    critical: bool
    run: Callable[[Recipe, Settings], Finding]


REGISTRY: list[Check] = []


def check(name: str, *, critical: bool) -> Callable[[Callable[[Recipe, Settings], Finding]], None]:
    """Put a check into the registry, in the order of the file."""
    return lambda function: REGISTRY.append(Check(name, critical, function))


@check("Python", critical=True)
def _python(recipe: Recipe, settings: Settings) -> Finding:
    del recipe, settings
    detail = f"{platform.python_version()} on {platform.platform()}"
    if sys.version_info < (3, 11):  # noqa: UP036 - a checkout can be put on any path of any Python
        return Finding("ERROR", detail, "install Python 3.11 or newer and run `make setup` again")
    return Finding("OK", detail)


@check("PyTorch", critical=True)
def _pytorch(recipe: Recipe, settings: Settings) -> Finding:
    """A real multiplication on the device that the recipe resolves to, compared with the CPU's."""
    import torch

    del settings
    facts = measure()
    device = choose_device(recipe.train.device, facts).value
    left, right = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    difference = float(((left.to(device) @ right.to(device)).cpu() - left @ right).abs().max())
    detail = f"{torch.__version__}, trains on {device} ({facts.device_name})"
    if not difference < 1e-2:
        fix = "train with --train.device cpu, and update PyTorch and the system"
        return Finding("ERROR", f"{detail}; a product of matrices is off by {difference:.2g}", fix)
    return Finding("OK", detail)


@check("Diffusers and Transformers", critical=True)
def _diffusers(recipe: Recipe, settings: Settings) -> Finding:
    del recipe, settings
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    del StableDiffusionPipeline, CLIPTextModel
    return Finding("OK", _versions("diffusers", "transformers"))


@check("Accelerate", critical=True)
def _accelerate(recipe: Recipe, settings: Settings) -> Finding:
    del recipe, settings
    import accelerate

    del accelerate
    return Finding("OK", _versions("accelerate"))


@check("PEFT (LoRA)", critical=True)
def _peft(recipe: Recipe, settings: Settings) -> Finding:
    """A LoRA layer of the recipe's rank, made for real."""
    del settings
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=recipe.train.rank, lora_alpha=recipe.train.lora_alpha, target_modules=["0"])
    get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config)
    return Finding("OK", _versions("peft"))


@check("Tracking and orchestration", critical=True)
def _operations(recipe: Recipe, settings: Settings) -> Finding:
    del recipe
    return Finding("OK", f"{_versions('mlflow', 'prefect')}; runs are kept in {settings.tracking_uri}")


@check("Memory", critical=False)
def _memory(recipe: Recipe, settings: Settings) -> Finding:
    del recipe, settings
    import psutil

    memory = psutil.virtual_memory()
    available = memory.available / GIGABYTE
    detail = f"{available:.1f} of {memory.total / GIGABYTE:.1f} GB available"
    if available < 8:
        return Finding("WARN", detail, "close other programs; 8 GB are needed for Stable Diffusion 1.5")
    return Finding("OK", detail)


@check("Disk", critical=True)
def _disk(recipe: Recipe, settings: Settings) -> Finding:
    """Room for the model, the caches and the checkpoints."""
    place = _existing(settings.data)
    free = shutil.disk_usage(place).free / GIGABYTE
    is_local = settings.locate(recipe.model.pretrained_model_name_or_path).is_dir()
    needed = 1.0 if is_local else 6.0
    detail = f"{free:.0f} GB free at {place}, {needed:.0f} GB needed"
    if free < needed:
        return Finding("ERROR", detail, "free some space, or set SHOES_DATA_DIR to a folder on a larger disk")
    return Finding("OK", detail)


@check("Data folder", critical=True)
def _data_folder(recipe: Recipe, settings: Settings) -> Finding:
    import os

    del recipe
    place = _existing(settings.data)
    if not os.access(place, os.W_OK):
        return Finding("ERROR", f"{place} can't be written to", "set SHOES_DATA_DIR to a folder of yours")
    return Finding("OK", str(settings.data))


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)

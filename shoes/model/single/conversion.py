"""A folder in diffusers' format made of a checkpoint in a single file."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoes.errors import ModelError
from shoes.model.single.header import Header, read_header
from shoes.model.single.kinds import refusals
from shoes.model.single.layout import PUBLISHED, Layout, layout_of
from shoes.model.single.parts import PARTS, Plan, convert, ema_count, misfits, plan_parts
from shoes.model.single.prediction import Said, measured, said
from shoes.progress import Progress
from shoes.storage import pretty_json

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
_WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_TYPE_BYTES = {"F64": 4, "F32": 4}
"""Bytes of a weight after the conversion; two for all other types."""
_SIDE_OF_V, _PIXELS_A_LATENT = 768, 8
"""Stable Diffusion 2's models of v were trained at 768 px, those of ε at 512."""
_MOST_NAMES = 3


def require_plan(file: Path) -> tuple[Header, Plan]:
    """How a file is to be converted, told from its header.

    Raises:
        ModelError: it is no checkpoint that can be trained, or is not whole; with all that is wrong.
    """
    header = read_header(file)
    problems = refusals(header, str(file))
    if not problems:
        plan = plan_parts(header, layout_of(header))
        problems = misfits(header, plan, str(file))
    if problems:
        raise ModelError(problems)
    return header, plan


def converted_bytes(header: Header, plan: Plan) -> int:
    """Bytes of the weights after the conversion."""
    total = 0
    for sources in plan.sources.values():
        for name in sources.values():
            size = _TYPE_BYTES.get(header.tensors[name].dtype, 2)
            for side in header.tensors[name].shape:
                size *= side
            total += size
    return total


def write_folder(file: Path, header: Header, plan: Plan, folder: Path, on_part: Progress) -> tuple[str, ...]:
    """Write the model into an empty folder; return what was decided, for people.

    One part is in memory at a time. Weights keep the file's precision; eight bits become fp16, and 64 fp32.
    """
    layout, spoken = plan.layout, said(file, header)
    for number, part in enumerate(PARTS):
        on_part(number, len(PARTS), part)
        _write_part(file, plan, part, folder / part)
    _write_configs(folder, layout, spoken or Said("epsilon", ""), header)
    if spoken is None:
        spoken = _measured(folder)
        _write_configs(folder, layout, spoken, header)
    on_part(len(PARTS), len(PARTS), "")
    return tuple(_notes(header, plan, spoken))


def _write_part(file: Path, plan: Plan, part: str, folder: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    folder.mkdir()
    with safe_open(file, "pt") as weights:
        given = {new: _as_read(weights.get_tensor(old)) for new, old in plan.sources[part].items()}
        # one field of metadata: several would come in a random order
        save_file(convert(part, given, plan.layout), folder / _WEIGHTS[part], {"format": "pt"})


def _as_read(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    if tensor.dtype == torch.float64:
        return tensor.float()
    return tensor.half() if tensor.element_size() == 1 else tensor


def _write_configs(folder: Path, layout: Layout, spoken: Said, header: Header) -> None:
    published = PUBLISHED / layout.family
    for name in ("tokenizer", "feature_extractor", "scheduler"):
        shutil.copytree(published / name, folder / name, dirs_exist_ok=True)
    for name in ("vocab.json", "merges.txt"):  # CLIP's, the same for all: kept once
        shutil.copyfile(PUBLISHED / "stable-diffusion-v1-5/tokenizer" / name, folder / "tokenizer" / name)
    shutil.copyfile(published / "model_index.json", folder / "model_index.json")
    unet = layout.unet | ({"sample_size": side} if (side := _latent_side(layout, spoken, header)) else {})
    for name, config in (("unet", unet), ("vae", layout.vae), ("text_encoder", layout.text_encoder)):
        _write_json(folder / name / "config.json", config)
    if spoken.prediction != "epsilon":
        file = folder / "scheduler/scheduler_config.json"
        _write_json(file, _read_json(file) | {"prediction_type": spoken.prediction})


def _latent_side(layout: Layout, spoken: Said, header: Header) -> int | None:
    """Side of the latents that the model was trained at, where it is another than the published config's."""
    if layout.family != "stable-diffusion-2-1-base":
        return None
    width, _, height = header.metadata.get("modelspec.resolution", "").partition("x")
    if width == height and width.isdigit():
        return int(width) // _PIXELS_A_LATENT
    return _SIDE_OF_V // _PIXELS_A_LATENT if spoken.prediction == "v_prediction" else None


def _measured(folder: Path) -> Said:
    found = measured(folder)
    if found is None:
        return Said("epsilon", "nothing says so, and its UNet does not tell; a YAML beside the file can say it")
    return Said(found, "measured on its UNet")


def _notes(header: Header, plan: Plan, spoken: Said) -> Iterator[str]:
    kinds = {header.tensors[name].dtype for sources in plan.sources.values() for name in sources.values()}
    letter = "v" if spoken.prediction == "v_prediction" else "ε"
    yield (
        f"the file is built like {plan.layout.title}, in {', '.join(sorted(kinds))}, and predicts {letter}: "
        f"{spoken.source}"
    )
    if narrow := sorted(kind for kind in kinds if kind.startswith("F8")):
        yield f"its weights of eight bits ({', '.join(narrow)}) were widened to fp16; what they had lost stays lost"
    if count := ema_count(header):
        yield f"it holds {count:,} EMA weights as well: the plain ones are taken, as AUTOMATIC1111 and ComfyUI do"
    if plan.left_aside:
        names = ", ".join(plan.left_aside[:_MOST_NAMES])
        more = " …" if len(plan.left_aside) > _MOST_NAMES else ""
        yield f"{len(plan.left_aside):,} tensors belong to no part and are left aside: {names}{more}"


def _read_json(file: Path) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def _write_json(file: Path, value: dict[str, Any]) -> None:
    file.write_text(pretty_json(value), encoding="utf-8")

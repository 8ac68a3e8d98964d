"""The libraries that training is made of: imported, and made to do a little of what they are here for."""

import platform

from shoes.environment.check import Finding, Situation
from shoes.environment.packages import is_installed, version, versions
from shoes.language import gettext as _
from shoes.language import ngettext


def pytorch(situation: Situation) -> Finding:
    """A real multiplication on the device that the recipe resolves to, compared with the CPU's."""
    from shoes.device import measure, problems

    facts = measure()
    backends = _("CUDA: {cuda}; MPS: built {built}, available {available}").format(
        cuda=_yes_no(facts.cuda), built=_yes_no(facts.mps_built), available=_yes_no(facts.mps)
    )
    if wrong := problems(situation.recipe.train, facts):
        what = "; ".join(f"{problem.where}: {problem.what}" for problem in wrong)
        return Finding("ERROR", f"{what}\n{backends}", "; ".join(problem.fix for problem in wrong))
    device = situation.device
    where = _("trains on {device} ({name})").format(device=device, name=facts.device_name)
    error = product_error(device)
    if not error < 1e-2:
        detail = _("a product of matrices is off by {error}").format(error=f"{error:.2g}")
        fix = _("train with --train.device cpu, and update PyTorch and the system")
        return Finding("ERROR", f"{facts.torch_version}, {where}: {detail}\n{backends}", fix)
    passed = _("tensor test passed")
    detail = f"{facts.torch_version}, {where}, {passed}\n{backends}"
    if device == "cpu" and platform.system() == "Darwin" and platform.machine() == "arm64":
        return Finding("WARN", detail, _("update macOS to 14 or newer, and PyTorch: the GPU of this Mac is not used"))
    return Finding("OK", detail)


def product_error(device: str) -> float:
    """Largest error of a 64 × 64 product made on a device, against the CPU's."""
    import torch

    left, right = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0)).unbind()
    return float(((left.to(device) @ right.to(device)).cpu() - left @ right).abs().max())


def diffusers(situation: Situation) -> Finding:
    """The pipeline's class, which diffusers replaces by a dummy where something that it needs is missing."""
    del situation
    import transformers  # noqa: F401 - first, because without it diffusers hands out dummies

    from shoes.model.load import quiet_libraries

    quiet_libraries()
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel, CLIPTokenizer

    del CLIPTextModel, CLIPTokenizer
    available = _("{name} available").format(name=StableDiffusionPipeline.__name__)
    return Finding("OK", f"{versions('diffusers', 'transformers')}; {available}")


def accelerate(situation: Situation) -> Finding:
    """Its one class that matters."""
    del situation
    from accelerate import Accelerator

    available = _("{name} available").format(name=Accelerator.__name__)
    return Finding("OK", f"{versions('accelerate')}; {available}")


def peft(situation: Situation) -> Finding:
    """An adapter of the recipe's rank, made for real; a new one changes nothing yet."""
    import torch
    from peft import LoraConfig, get_peft_model

    rank, alpha = situation.recipe.train.rank, situation.recipe.train.lora_alpha
    layer, given = torch.nn.Linear(8, 8), torch.ones(1, 8)
    before = layer(given)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["0"])
    adapted = get_peft_model(torch.nn.Sequential(layer), config)
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    if trainable != rank * (8 + 8) or not torch.equal(adapted(given), before):
        return Finding("ERROR", f"{versions('peft')}; " + _("its adapter is not what it should be"), _reinstall())
    made = ngettext(
        "LoraConfig and get_peft_model: an adapter of rank {rank} with {count} trainable parameter",
        "LoraConfig and get_peft_model: an adapter of rank {rank} with {count} trainable parameters",
        trainable,
    )
    return Finding("OK", f"{versions('peft')}; {made.format(rank=rank, count=trainable)}")


def datasets(situation: Situation) -> Finding:
    """Hugging Face's reader of image folders, and Pillow, which has to read and write a picture."""
    del situation
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.new("RGB", (2, 2), (200, 30, 40)).save(stream, "PNG")
    if Image.open(stream).convert("RGB").getpixel((1, 1)) != (200, 30, 40):
        return Finding("ERROR", _("Pillow does not read back what it wrote"), _reinstall())
    import datasets as library

    del library
    return Finding("OK", versions("datasets", "pillow"))


def optional(situation: Situation) -> Finding:
    """Packages that the project does without: what each would give on this device, and what it would not."""
    place, absent = "cuda" if _has_cuda(situation) else platform.system(), _("not installed")
    lines = [f"{name} ({version(name) if is_installed(name) else absent}): {use}" for name, use in _uses(place).items()]
    return Finding("INFO", "\n".join(lines))


def _uses(place: str) -> dict[str, str]:
    """What each would be good for: on CUDA, on macOS (Darwin), or on a bare CPU."""
    attention = {
        "cuda": _("an attention for drawing (inference.attention = xformers); PyTorch's own is about as fast"),
        "Darwin": _("nothing here: it has no kernels for MPS, and PyTorch's own attention is used"),
    }
    optimizer = {
        "cuda": _("nothing: 8-bit AdamW would save some megabytes, an adapter's state is no larger"),
        "Darwin": _("nothing here: its 8-bit optimizer needs CUDA"),
    }
    return {
        "xformers": attention.get(place, _("nothing here: its kernels need CUDA")),
        "wandb": _("nothing: runs are kept in MLflow, without an account"),
        "tensorboard": _("nothing: curves are shown by MLflow"),
        "bitsandbytes": optimizer.get(place, _("nothing here: its 8-bit optimizer needs CUDA")),
    }


def _has_cuda(situation: Situation) -> bool:
    if not is_installed("torch") or situation.recipe.train.device not in ("auto", "cuda"):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _yes_no(value: bool) -> str:
    return _("yes") if value else _("no")


def _reinstall() -> str:
    return _("install the project again: `make setup`")

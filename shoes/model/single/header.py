"""The header of a safetensors file: all that can be known of a checkpoint without reading its weights."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shoes.errors import ModelError, Problem
from shoes.spec.names import PICKLES

DOWNLOAD_AGAIN = "download the file again, and compare its size or SHA-256 with what its page says"
_CONVERT = (
    "look for a .safetensors file on the model's page; or, where you trust this one, convert it once with diffusers: "
    "`StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)`, and give that folder"
)
_MAGIC = {
    b"GGUF": ("is a GGUF file: its weights are quantised", "give the .safetensors file that it was made of"),
    b"PK\x03\x04": ("is a pickle, which can run code when it is loaded", _CONVERT),
    b"\x80": ("is a pickle, which can run code when it is loaded", _CONVERT),
    b"version https://git-lfs": ("is Git LFS's pointer to a file, not the file", "run `git lfs pull`, or download it"),
    b"<": ("is a web page: the download was refused", DOWNLOAD_AGAIN),
}
"""How files begin that are taken for safetensors."""


@dataclass(frozen=True)
class Tensor:
    """A tensor, without its values."""

    shape: tuple[int, ...]
    dtype: str
    """By safetensors' word: F32, F16, BF16, F8_E4M3 …"""


@dataclass(frozen=True)
class Header:
    """The tensors of a file by name, and its metadata."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def below(self, *prefixes: str) -> Iterator[str]:
        """Names that begin with one of the prefixes."""
        return (name for name in self.tensors if name.startswith(prefixes))

    def has(self, *prefixes: str) -> bool:
        """A name begins with one of the prefixes."""
        return next(self.below(*prefixes), None) is not None

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; empty for one that is not there."""
        return self.tensors[name].shape if name in self.tensors else ()


def read_header(file: Path) -> Header:
    """The header of a safetensors file, which is as long as it says.

    Raises:
        ModelError: it is a pickle, another kind of file, damaged or cut off, or can't be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as opened:
            start = opened.read(64)
        _require_safetensors(file, start)
        with safe_open(file, "np") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            tensors = {name: Tensor(tuple(one.get_shape()), str(one.get_dtype())) for name, one in slices.items()}
            return Header(tensors, dict(weights.metadata() or {}))
    except OSError as error:
        text = f"can't be read: {error.strerror or error}"
        raise ModelError([Problem(str(file), text, "make the file readable")]) from error
    except SafetensorError as error:
        text = f"is no whole safetensors file: it was cut off or damaged ({error})"
        raise ModelError([Problem(str(file), text, DOWNLOAD_AGAIN)]) from error


def _require_safetensors(file: Path, start: bytes) -> None:
    if not start:
        raise ModelError([Problem(str(file), "is empty", DOWNLOAD_AGAIN)])
    is_safetensors = start[8:9] == b"{"  # eight bytes of length, then JSON
    if is_safetensors:
        return
    found = next((said for magic, said in _MAGIC.items() if start.lstrip().startswith(magic)), None)
    if found is None and file.suffix.lower() in PICKLES:
        found = _MAGIC[b"\x80"]
    if found is not None:
        raise ModelError([Problem(str(file), *found)])

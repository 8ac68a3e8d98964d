"""The checks, in the order of the report. To add one, write a function of a Situation and name it here."""

from shoes.environment.check import ALWAYS, BY_HAND, NEVER, Check
from shoes.environment.checks import components, inputs, libraries, machine, operations, storage
from shoes.language import mark

_TORCH = ("torch",)
_DIFFUSERS = ("diffusers", "transformers")

CHECKS: tuple[Check, ...] = (
    Check(mark("Python"), machine.python, ALWAYS, 10),
    Check(mark("PyTorch"), libraries.pytorch, ALWAYS, 120, packages=_TORCH, imports=True),
    Check(
        mark("Diffusers and Transformers"),
        libraries.diffusers,
        ALWAYS,
        180,
        packages=_DIFFUSERS,
        needs=_TORCH,
        imports=True,
    ),
    Check(mark("Accelerate"), libraries.accelerate, ALWAYS, 60, packages=("accelerate",), needs=_TORCH, imports=True),
    Check(mark("PEFT (LoRA)"), libraries.peft, ALWAYS, 60, packages=("peft",), needs=_TORCH, imports=True),
    Check(mark("Optional packages"), libraries.optional, NEVER, 30, imports=True),
    Check(mark("Datasets and Pillow"), libraries.datasets, ALWAYS, 60, packages=("datasets", "pillow"), imports=True),
    Check(mark("Memory"), machine.memory, NEVER, 30, imports=True),
    Check(mark("Prepared data set"), inputs.data_set, BY_HAND, 600),
    Check(
        mark("Stable Diffusion components"),
        components.components,
        ALWAYS,
        120,
        needs=(*_TORCH, *_DIFFUSERS),
        imports=True,
    ),
    Check(mark("Model files"), inputs.model_files, BY_HAND, 900),
    Check(mark("Data folder"), storage.data_folder, ALWAYS, 30),
    Check(mark("Disk"), storage.disk, ALWAYS, 60),
    Check(mark("Prefect"), operations.prefect, ALWAYS, 120, packages=("prefect",)),
    Check(mark("MLflow"), operations.mlflow, ALWAYS, 120, packages=("mlflow",)),
    Check(mark("Power and sleep"), machine.power, NEVER, 30),
)

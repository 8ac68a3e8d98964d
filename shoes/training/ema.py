"""An exponential moving average of the adapter's weights, which often draws better than the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

NUM_UPDATES = "num_updates"


class Average:
    """The average of named parameters, in fp32 on their device; at first it is what they are."""

    def __init__(self, parameters: "Mapping[str, torch.nn.Parameter]", decay: float) -> None:
        import torch

        self._decay = decay
        self._num_updates = 0
        self._values = {name: p.detach().to(torch.float32, copy=True) for name, p in parameters.items()}

    def update(self, parameters: "Mapping[str, torch.nn.Parameter]") -> None:
        """Take a step's weights into the average.

        Of itself it keeps min(decay, (1 + n) / (10 + n)) after n updates, and nothing at the first: as diffusers'
        EMAModel does, so that the fresh adapter is soon forgotten.
        """
        import torch

        n = self._num_updates
        kept = min(self._decay, (1 + n) / (10 + n)) if n else 0.0
        values = list(self._values.values())
        with torch.no_grad():
            differences = torch._foreach_sub(values, [parameters[name].float() for name in self._values])
            torch._foreach_sub_(values, differences, alpha=1 - kept)
        self._num_updates += 1

    @contextmanager
    def swapped_in(self, parameters: "Mapping[str, torch.nn.Parameter]") -> Iterator[None]:
        """The parameters are the average inside the block, and what they were behind it."""
        live = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        _copy(self._values, parameters)
        try:
            yield
        finally:
            _copy(live, parameters)

    def tensors(self) -> "dict[str, torch.Tensor]":
        """The average and the number of its updates, copied to the CPU."""
        import torch

        values = {name: value.to("cpu", copy=True) for name, value in self._values.items()}
        return {**values, NUM_UPDATES: torch.tensor(self._num_updates)}

    def restore(self, tensors: "Mapping[str, torch.Tensor]") -> None:
        """Go back to what `tensors` gave."""
        assert tensors.keys() == self._values.keys() | {NUM_UPDATES}, "the average of another adapter"
        self._num_updates = int(tensors[NUM_UPDATES])
        for name, value in self._values.items():
            value.copy_(tensors[name])


def _copy(values: "Mapping[str, torch.Tensor]", parameters: "Mapping[str, torch.nn.Parameter]") -> None:
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])

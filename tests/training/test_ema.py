"""The average of the weights is diffusers' one, comes and goes without a trace, and resumes exactly."""

import pytest
import torch
from diffusers.training_utils import EMAModel

from shoes.tensors import read_tensors, write_tensors
from shoes.training.ema import Average

Parameters = dict[str, torch.nn.Parameter]


def parameters() -> Parameters:
    numbers = torch.Generator().manual_seed(0)
    return {name: torch.nn.Parameter(torch.randn(3, 4, generator=numbers)) for name in ("a.lora_A", "a.lora_B")}


def move(weights: Parameters, step: int) -> None:
    numbers = torch.Generator().manual_seed(step + 1)
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(torch.randn(weight.shape, generator=numbers))


@pytest.mark.parametrize("decay", [0.5, 0.995])
def test_the_average_is_that_of_diffusers(decay: float) -> None:
    weights = parameters()
    ours, theirs = Average(weights, decay), EMAModel(list(weights.values()), decay=decay)
    for step in range(30):
        move(weights, step)
        ours.update(weights)
        theirs.step(list(weights.values()))
        found = ours.tensors()
        for name, expected in zip(weights, theirs.shadow_params, strict=True):
            torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(found["a.lora_A"], weights["a.lora_A"]), "an average is not the last weights"


def test_before_the_first_update_it_is_what_the_weights_are() -> None:
    weights = parameters()
    average = Average(weights, 0.9)
    start = weights["a.lora_A"].detach().clone()
    move(weights, 0)
    assert torch.equal(average.tensors()["a.lora_A"], start)


def test_it_is_swapped_in_and_out_without_a_trace() -> None:
    weights = parameters()
    average = Average(weights, 0.9)
    for step in range(5):
        move(weights, step)
        average.update(weights)
    live = {name: weight.detach().clone() for name, weight in weights.items()}
    kept = average.tensors()
    with average.swapped_in(weights):
        assert all(torch.equal(weights[name], kept[name]) for name in weights)
        assert all(torch.equal(average.tensors()[name], kept[name]) for name in kept)
    assert all(torch.equal(weights[name], live[name]) for name in weights)
    with pytest.raises(KeyboardInterrupt), average.swapped_in(weights):
        raise KeyboardInterrupt
    assert all(torch.equal(weights[name], live[name]) for name in weights)


def test_half_precision_weights_are_averaged_in_full() -> None:
    weights = {"a": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))}
    average = Average(weights, 0.999)
    average.update(weights)
    with torch.no_grad():
        weights["a"].fill_(1.0078125)  # the next number that bfloat16 knows
    average.update(weights)
    found = average.tensors()["a"]
    assert found.dtype == torch.float32
    assert 1 < found[0] < 1.0078125


def test_resumed_equals_continuous(tmp_path) -> None:
    def run(stop: int | None) -> dict[str, torch.Tensor]:
        weights = parameters()
        average = Average(weights, 0.995)
        for step in range(12):
            if step == stop:
                write_tensors(tmp_path / "average.safetensors", average.tensors())
                average = Average(weights, 0.995)
                average.restore(read_tensors(tmp_path / "average.safetensors"))
            move(weights, step)
            average.update(weights)
        return average.tensors()

    whole, resumed, other = run(None), run(5), run(0)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert all(torch.equal(whole[name], other[name]) for name in whole)
    assert int(whole["num_updates"]) == 12


def test_the_average_of_another_adapter_is_refused() -> None:
    average = Average(parameters(), 0.9)
    with pytest.raises(AssertionError, match="another adapter"):
        average.restore({"b": torch.zeros(1), "num_updates": torch.tensor(1)})

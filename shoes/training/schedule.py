"""Learning rate as a pure function of the step."""

from collections.abc import Callable

from shoes.spec import TrainSpec


def learning_rate(spec: TrainSpec) -> Callable[[int], float]:
    """The learning rate of each step, 0 being the first, by diffusers' schedule of that name."""
    import torch
    from diffusers.optimization import get_scheduler

    # diffusers makes its schedules as LambdaLR around an optimizer; only the lambda is taken, which is pure.
    # The polynomial one ends at a rate of 1e-7, and asks the optimizer for the peak to know what share that is.
    placeholder = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=spec.learning_rate)
    schedule = get_scheduler(
        spec.lr_scheduler,
        placeholder,
        num_warmup_steps=spec.lr_warmup_steps,
        num_training_steps=max(1, spec.max_train_steps),
        num_cycles=spec.lr_num_cycles,
        power=spec.lr_power,
    )
    factor: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: spec.learning_rate * factor(step)

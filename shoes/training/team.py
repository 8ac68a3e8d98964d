"""The processes that share each step of a training.

Rank 0 is the training: it keeps the journal, validates, saves and decides. The others hold the same adapter, take
their share of each effective batch, and make the same update from the same summed gradients.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class Share:
    """What one member computed of a step; the sum of all behind the block."""

    loss: Any = None


class Trouble(RuntimeError):  # noqa: N818
    """Another member of the team could not do its share: out of memory there."""


@dataclass(frozen=True)
class Team:
    """One process of `size`; alone, everything here does nothing."""

    rank: int = 0
    size: int = 1

    def share(self, batch: int) -> range:
        """This member's positions in an effective batch; shares differ by one at most."""
        return range(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    @contextmanager
    def in_step(self, parameters: "Mapping[str, torch.nn.Parameter]") -> Iterator[Share]:
        """Around a member's forward and backward passes: sums gradients and losses over the team behind them.

        Raises:
            RuntimeError: what a member's device raised, in every member of the team.
        """
        share = Share()
        if self.size == 1:
            yield share
            return
        failure: Exception | None = None
        try:
            yield share
        except RuntimeError as error:  # the others wait for this member's gradients, whatever happens here
            failure = error
        self._sum(share, parameters, failure)

    def _sum(self, share: Share, parameters: "Mapping[str, torch.nn.Parameter]", failure: Exception | None) -> None:
        import torch
        from accelerate.utils import reduce

        members = list(parameters.values())
        zero = torch.zeros((), device=members[0].device)
        grads = [p.grad if p.grad is not None and not failure else torch.zeros_like(p) for p in members]
        loss = zero if failure else share.loss.float()
        flat = torch.cat([*(grad.flatten() for grad in grads), loss.view(1), (zero + bool(failure)).view(1)])
        total = reduce(flat, reduction="sum")
        if failure:
            raise failure
        if float(total[-1]):
            raise Trouble("out of memory in another process of this training")
        share.loss = total[-2]
        for parameter, grad in zip(members, total[:-2].split([p.numel() for p in members]), strict=True):
            parameter.grad = grad.view_as(parameter)

    def tell(self, command: str, *what: Any) -> None:
        """Rank 0 says what all do next."""
        if self.size > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list([(command, *what)])

    def listen(self) -> tuple[Any, ...]:
        """The others wait for it."""
        from accelerate.utils import broadcast_object_list

        heard: list[Any] = [None]
        broadcast_object_list(heard)
        return tuple(heard[0])


ALONE = Team()

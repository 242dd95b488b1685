"""Muon: steps of equal size in all directions of a weight matrix."""

from collections.abc import Iterable

import torch

# Of a polynomial that drives singular values towards one in few rounds.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """For weights of two or more dimensions: matrices and convolutions, seen as (out, rest).

    Source: Jordan et al.: Muon, an optimizer for hidden layers in neural networks (2024).
    """

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Takes one step along the gradients that are there."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = torch.lerp(parameter.grad, state["momentum"], group["momentum"])
                matrix = ahead.reshape(len(ahead), -1)
                size = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                step = _orthogonalised(matrix).reshape(parameter.shape)
                parameter.add_(step.to(parameter.dtype), alpha=-group["lr"] * size)


def _orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose singular values are all about one, by Newton and Schulz."""
    a, b, c = _COEFFICIENTS
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).bfloat16()
    x /= x.norm() + 1e-7
    for _ in range(_NUM_ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x

"""A network that is given side information."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SideNetwork(nn.Module):
    """Logits from the mean of each channel and from side information."""

    def __init__(self, input_shape: tuple[int, int, int], n_side: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_shape[0] + n_side, 2)

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        return self.linear(torch.cat([x.mean((2, 3)), side], 1))

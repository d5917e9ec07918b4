"""A small residual network on planes (He et al. 2016, CVPR, 770), pooled before each stage."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualTrunk(nn.Module):
    """Planes and scalars to features.

    Parameters
    ----------
    names : sequence of str
        What the planes are; only their number matters here.
    n_scalars : int
        Number of scalars, which shift the first features as planes of their values would.
    width : int
        Filters of the first stage; the others have twice and four times as many.
    """

    def __init__(self, names: tuple[str, ...], n_scalars: int, width: int = 24) -> None:
        super().__init__()
        stem = max(8, width * 2 // 3)
        self.stem = nn.Conv2d(len(names), stem, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(stem)
        self.scalars = nn.Linear(n_scalars, stem)
        nn.init.zeros_(self.scalars.weight)
        widths = [stem, width, 2 * width, 4 * width]
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.MaxPool2d(3, 2, 1), ResidualBlock(a, b))
                for a, b in pairwise(widths)
            )
        )
        self.n_features = 2 * widths[-1]

    def forward(self, planes: Tensor, scalars: Tensor) -> Tensor:
        """Features (n, n_features): mean and maximum of each filter over the stamp."""
        x = self.norm(self.stem(planes)) + self.scalars(scalars)[:, :, None, None]
        return pooled(self.stages(F.relu(x)))


class ResidualBlock(nn.Module):
    """Two convolutions with a way around them."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(n_out)
        nn.init.zeros_(last.weight)  # start as if the block were not there
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            last,
        )
        self.around: nn.Module = nn.Identity()
        if n_in != n_out:
            self.around = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out)
            )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same size."""
        return self.activation(self.around(x) + self.convolutions(x))


def pooled(x: Tensor) -> Tensor:
    """Mean and maximum over the image, (n, 2·C)."""
    return torch.cat([x.mean((-2, -1)), x.amax((-2, -1))], 1)

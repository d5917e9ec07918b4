"""Compare search and template pixel by pixel: one encoder for both, which look at each other."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rb.models.modern.residual import ResidualBlock, pooled
from rb.stamps.layout import IMAGES


class PixelwiseTrunk(nn.Module):
    """Siamese encoder with cross-attention at the same position, then features of both.

    Search and template go through the same convolutions. Before each stage each image's features
    ask, at every position, those of both images there (attention over two places), and take in
    what they are answered; so each knows at every scale what the other shows at its place.

    Parameters
    ----------
    names : sequence of str
        What the planes are. ``srch`` and ``tmpl`` are the two images; the others, if any, are
        shown beside both.
    n_scalars : int
        Number of scalars; what they say differs for the two images.
    width : int
        Filters of the first stage; the others have twice and three times as many.
    heads : int
        Heads of the attention.
    """

    def __init__(
        self, names: tuple[str, ...], n_scalars: int, width: int = 12, heads: int = 4
    ) -> None:
        super().__init__()
        self._own = [names.index(image) for image in IMAGES]
        self._shared = [i for i, name in enumerate(names) if name not in IMAGES]
        self.stem = nn.Conv2d(1 + len(self._shared), width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        # Which image it is, and how it was taken.
        self.scalars = nn.Linear(n_scalars, 2 * width)
        widths = [width, width, 2 * width, 3 * width]
        self.exchanges = nn.ModuleList(Exchange(w, heads) for w in widths[:-1])
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        self.merge = nn.Conv2d(4 * widths[-1], 2 * widths[-1], 1)
        self.n_features = 4 * widths[-1]

    def forward(self, planes: Tensor, scalars: Tensor) -> Tensor:
        """Features (n, n_features)."""
        n = planes.shape[0]  # not len(), which an exported graph would take for a constant
        own = torch.cat([planes[:, i : i + 1] for i in self._own])
        shared = planes[:, self._shared]
        x = self.norm(self.stem(torch.cat([own, torch.cat([shared, shared])], 1)))
        given = torch.cat(self.scalars(scalars).chunk(2, 1))
        x = F.relu(x + given[:, :, None, None])
        for exchange, block in zip(self.exchanges, self.blocks, strict=True):
            x = F.max_pool2d(x, 3, 2, 1)
            x = block(exchange(x))
        search, template = x[:n], x[n:]
        together = torch.cat([search, template, search - template, search * template], 1)
        return pooled(F.relu(self.merge(together)))


class Exchange(nn.Module):
    """Attention of each position over itself and the same position of the other image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.BatchNorm2d(width)
        self.asked = nn.Conv2d(width, 3 * width, 1)
        self.answer = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.answer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Features (2n, C, h, w), search images first, with what they learned."""
        both, width, height, across = x.shape
        n = both // 2
        parts = self.asked(self.norm(x)).reshape(
            2, n, 3, self.heads, width // self.heads, height, across
        )
        query, key, value = parts.unbind(2)
        other_key, other_value = key.flip(0), value.flip(0)
        # A softmax over two is a sigmoid of the difference.
        lean = (query * (other_key - key)).sum(3, keepdim=True)
        share = torch.sigmoid(lean / (width // self.heads) ** 0.5)
        taken = value + share * (other_value - value)
        return x + self.answer(taken.reshape(both, width, height, across))

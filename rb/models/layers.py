"""Layers that compute the same function as PyTorch's, faster on a CPU; means of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 1 << 16  # 16 random bits an element
_FILTERS_OF_A_UNIT = 16  # single-precision numbers in a vector of AVX-512, or in two of AVX2


class Dropout(nn.Dropout):
    """Dropout whose mask costs a fraction of PyTorch's on a CPU.

    PyTorch draws a double an element from a serial generator, which is a fifth of a training
    step of the paper's networks. Here 16 bits an element come from SFC64, seeded by PyTorch's
    generator, so that ``torch.manual_seed`` still decides them. The rate is that of the nearest
    multiple of 1/65536, and the elements that are kept are scaled by exactly its inverse.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Zero each element with probability `p` in training; identity in evaluation."""
        if not self.training or self.p == 0 or x.device.type != "cpu" or torch.jit.is_tracing():
            return super().forward(x)
        kept = round((1 - self.p) * _LEVELS)
        generator = np.random.SFC64(int(torch.randint(1 << 62, ())))
        words = generator.random_raw(-(-x.numel() // 4)).view(np.uint16)[: x.numel()]
        keep = torch.from_numpy(words < kept)
        # The mask lies in memory as x does, or the product would walk one of them crosswise.
        mask = torch.empty_like(x).copy_(_as_strided_like(keep, x)).mul_(_LEVELS / max(kept, 1))
        return x * mask


def _as_strided_like(flat: Tensor, x: Tensor) -> Tensor:
    if x.is_contiguous():
        return flat.view(x.shape)
    n, c, h, w = x.shape
    return flat.view(n, h, w, c).permute(0, 3, 1, 2)


def mean_logits(each: Sequence[Tensor]) -> Tensor:
    """Logarithms of the mean probabilities (n, n_classes), of logits of the same stamps."""
    together = torch.stack([logits.log_softmax(1) for logits in each])
    return together.logsumexp(0) - math.log(len(each))


def conv_max_pool(convolution: nn.Conv2d, pool: int, x: Tensor) -> Tensor:
    """Convolution with few filters and max pooling after it, as one strided convolution.

    A convolution with one filter keeps the vector units idle. The `pool`² outputs that a
    maximum is taken of are computed as filters of their own: the kernel shifted by each offset,
    with a stride of `pool`; and so are some neighbours along a row, until the units are full.
    Equal to ``max_pool2d(convolution(x), pool)`` up to rounding.

    Parameters
    ----------
    convolution : Conv2d
        Without padding, of stride 1.
    pool : int
        Window and stride of the pooling, px.
    x : Tensor, (N, C, H, W)
        Input.
    """
    weight, bias = convolution.weight, convolution.bias
    filters, _, high, wide = weight.shape
    rows, columns = (x.shape[2] - high + 1) // pool, (x.shape[3] - wide + 1) // pool
    beside = max(1, _FILTERS_OF_A_UNIT // (filters * pool**2))
    step, blocks = pool * beside, -(-columns // beside)
    spare, below = step - 1, pool - 1
    # Windows onto the padded kernel, from the last one backwards, are the kernel shifted.
    padded = F.pad(weight, (spare, spare, below, below))
    windows = padded.unfold(2, high + below, 1).unfold(3, wide + spare, 1).flip(2, 3)
    shifted = windows.unflatten(3, (beside, pool)).permute(2, 4, 3, 0, 1, 5, 6).flatten(0, 3)
    x = F.pad(x, (0, (blocks - 1) * step + wide + spare - x.shape[3]))
    repeated = None if bias is None else bias.repeat(len(shifted) // filters)
    out = F.conv2d(x, shifted, repeated, stride=(pool, step))[:, :, :rows]
    of_each = out.permute(0, 2, 3, 1).unflatten(3, (pool**2, beside, filters))
    if torch.is_grad_enabled():
        largest = of_each.max(3).values  # whose gradient goes to one of several equal ones
    else:
        largest = reduce(torch.maximum, of_each.unbind(3))  # the same, sooner
    return largest.flatten(2, 3)[:, :, :columns].permute(0, 3, 1, 2)

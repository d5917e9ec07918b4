"""Layers that are faster than PyTorch's compute the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rb.models.cnn import StampCNN
from rb.models.layers import Dropout, conv_max_pool


@pytest.mark.parametrize(("filters", "kernel", "pool"), [(1, 7, 2), (2, 5, 2), (1, 3, 3)])
@pytest.mark.parametrize("shape", [(3, 1, 51, 102), (2, 2, 30, 31)])
def test_convolution_and_pooling_at_once(filters, kernel, pool, shape):
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    layer = nn.Conv2d(shape[1], filters, kernel, dtype=torch.float64)
    expected = nn.functional.max_pool2d(layer(x), pool)
    weights = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * weights).sum(), [x, layer.weight, layer.bias])
    found = conv_max_pool(layer, pool, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad((found * weights).sum(), [x, layer.weight, layer.bias])
    for one, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_network_is_the_same_function_either_way():
    torch.manual_seed(1)
    layers = [{"filters": 1, "kernel": 7, "pool": 2}, {"filters": 16, "kernel": 3, "pool": 2}]
    network = StampCNN((1, 51, 102), layers).eval()
    x = torch.randn(5, 1, 51, 102)
    torch.testing.assert_close(network(x), network.layers(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_dropout_keeps_its_rate_and_the_mean(rate, channels_last):
    x = torch.ones(20, 16, 25, 75)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    layer = Dropout(rate)
    torch.manual_seed(3)
    out = layer(x)
    kept = out != 0
    n = x.numel()
    error = (rate * (1 - rate) / n) ** 0.5
    assert abs(1 - kept.float().mean().item() - rate) < 4 * error + 1 / 65536
    assert abs(out.mean().item() - 1) < 5 * error / (1 - rate) + 1e-5
    assert torch.unique(out[kept]).numel() == 1
    # Neighbours along every axis fall independently.
    for axis in range(4):
        both = (kept & kept.roll(1, axis)).float().mean().item()
        assert abs(both - (1 - rate) ** 2) < 0.005


def test_dropout_follows_the_seed_and_does_nothing_in_evaluation():
    layer, x = Dropout(0.4), torch.randn(7, 33)
    torch.manual_seed(5)
    first = layer(x)
    second = layer(x)
    torch.manual_seed(5)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(layer.eval()(x), x)


def test_dropout_passes_the_gradient_of_what_is_kept():
    layer, x = Dropout(0.4), torch.randn(50, 8, requires_grad=True)
    out = layer(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(gradient != 0, out != 0)

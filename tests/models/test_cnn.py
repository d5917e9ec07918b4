"""StampCNN: the paper's tables, Keras' initialisation, and impossible descriptions."""

from __future__ import annotations

import math

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from rb.config import project_root
from rb.errors import UserError
from rb.models.build import build_network, build_optimizer
from rb.models.cnn import StampCNN
from rb.stamps.inputs import InputSpec


def from_config(name: str) -> tuple[nn.Module, InputSpec]:
    config = OmegaConf.to_container(OmegaConf.load(project_root() / f"conf/model/{name}.yaml"))
    inputs = InputSpec(**config["inputs"])
    return build_network(config["network"], inputs), inputs


@pytest.mark.parametrize(
    ("name", "shape", "parameters", "flat"),
    [("dia", (1, 51, 153), 126_050, 1920), ("nodia", (1, 51, 102), 45_908, 1280)],
)
def test_tables_3_and_4(name, shape, parameters, flat):
    network, inputs = from_config(name)
    assert inputs.shape == shape
    assert sum(p.numel() for p in network.parameters()) == parameters
    dense = [m for m in network.modules() if isinstance(m, nn.Linear)]
    assert [m.in_features for m in dense] == [flat, 32]
    assert network(torch.zeros(3, *shape)).shape == (3, 2)


def test_table_4_has_no_dropout_after_the_first_convolution():
    network, _ = from_config("nodia")
    kinds = [type(m).__name__ for m in network.layers]
    assert kinds[:4] == ["Conv2d", "MaxPool2d", "ReLU", "Conv2d"]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.4, 0.4]


def test_pooling_first_is_the_same_function():
    x = torch.randn(4, 1, 51, 51)
    network = StampCNN((1, 51, 51), [{"filters": 3, "kernel": 5, "pool": 2}], dense=())
    convolution = network.layers[0]
    usual = torch.max_pool2d(torch.relu(convolution(x)), 2)
    torch.testing.assert_close(network.layers[-1](usual.flatten(1)), network(x))


def test_weights_start_as_in_keras():
    network, _ = from_config("dia")
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            receptive = module.weight[0, 0].numel()
            fans = (module.weight.shape[0] + module.weight.shape[1]) * receptive
            limit = math.sqrt(6 / fans)
            assert module.bias.abs().sum() == 0
            assert module.weight.abs().max() <= limit
            if module.weight.numel() > 1000:
                assert module.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.05)


def test_no_module_is_used_twice():
    network, _ = from_config("dia")
    assert len(set(map(id, network.layers))) == len(network.layers)
    assert not any(getattr(m, "inplace", False) for m in network.modules())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"filters": 4}, "layer 1: kernel is None"),
        ({"filters": 0, "kernel": 3}, "layer 1: filters is 0"),
        ({"filters": 4, "kernel": 3, "stride": 2}, "unknown key 'stride'"),
        ({"filters": 4, "kernel": 3, "padding": "full"}, "padding is 'full'"),
        ({"filters": 4, "kernel": 3, "dropout": 1.0}, "dropout is 1.0"),
        ({"filters": 4, "kernel": 60}, "nothing is left of the image"),
    ],
)
def test_impossible_layers_are_named(layer, message):
    with pytest.raises(UserError, match=message):
        StampCNN((1, 51, 51), [layer])


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"_target_": "rb.models.cnn.Nothing"}, "there is no 'rb.models.cnn.Nothing'"),
        ({"_target_": ""}, "'' is not one of rb's own networks"),
        ({"_target_": "os.getcwd"}, "not one of rb's own networks, and no installed package"),
        ({"_target_": "rb.models.cnn.keras_initialisation"}, "is not a network"),
        (
            {"_target_": "rb.models.cnn.StampCNN", "convolutions": [], "width": 3},
            "model.network: .*width",
        ),
        ({"_target_": "rb.models.cnn.StampCNN"}, "model.network: .*convolutions"),
    ],
)
def test_impossible_networks_are_named(network, message):
    with pytest.raises(UserError, match=message):
        build_network(network, InputSpec())


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"_target_": "torch.optim.Sgd"}, "there is no 'torch.optim.Sgd'"),
        ({"_target_": "torch.optim.SGD", "rate": 1}, "trainer.optimizer: .*rate"),
        ({"_target_": "torch.optim.SGD", "lr": -1.0}, "trainer.optimizer: .*learning rate"),
    ],
)
def test_impossible_optimisers_are_named(optimizer, message):
    with pytest.raises(UserError, match=message):
        build_optimizer(optimizer, None, [nn.Parameter(torch.zeros(1))])

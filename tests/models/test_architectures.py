"""Every architecture of the paper, against the layers that its tables list."""

from __future__ import annotations

import pytest
import torch
from composing import composed
from torch import nn

from rb.errors import UserError
from rb.models.backbones import BackboneCNN
from rb.models.build import build_network
from rb.stamps.inputs import InputSpec

# Rows of Tables 3, 4 and 6-9: ("conv", filters, size), "pool" (2x2), ("dropout", rate),
# "flatten", ("dense", units).
TABLE_3 = [
    *(x for f in (16, 32, 64) for x in (("conv", f, 5), "pool", ("dropout", 0.4))),
    "flatten", ("dense", 32), ("dense", 2),
]  # fmt: skip
CONVOLUTIONS_4 = [
    ("conv", 1, 7), "pool", ("conv", 16, 3), "pool", ("dropout", 0.4), ("conv", 32, 3), "pool",
    ("dropout", 0.4), "flatten",
]  # fmt: skip
TABLE_4 = [*CONVOLUTIONS_4, ("dense", 32), ("dense", 2)]
TABLE_6 = [*CONVOLUTIONS_4, *(("dense", n) for n in (32, 24, 16, 8, 2))]
TABLE_7 = [*CONVOLUTIONS_4, *(("dense", n) for n in (1200, 800, 400, 160, 80, 32, 24, 16, 8, 2))]
CONVOLUTIONS_8 = [
    ("conv", 1, 7), ("conv", 8, 5), ("conv", 16, 3), ("conv", 24, 3), ("dropout", 0.4),
    ("conv", 32, 3), "pool", ("dropout", 0.4), "flatten",
]  # fmt: skip
TABLE_8 = [*CONVOLUTIONS_8, ("dense", 32), ("dense", 2)]
TABLE_9 = [*CONVOLUTIONS_8, *(("dense", n) for n in (32, 24, 16, 8, 2))]


def from_config(name: str) -> tuple[nn.Module, InputSpec]:
    config = composed("train", f"model={name}")["model"]
    inputs = InputSpec(**config["inputs"])
    return build_network(config["network"], inputs), inputs


def layers_of(network: nn.Module) -> list:
    """The network in the words of the tables; activations are not rows there."""
    rows = []
    for module in network.layers:
        if isinstance(module, nn.Conv2d):
            assert module.padding in (0, (0, 0), "valid")
            rows.append(("conv", module.out_channels, module.kernel_size[0]))
        elif isinstance(module, nn.MaxPool2d):
            assert module.kernel_size == 2
            rows.append("pool")
        elif isinstance(module, nn.Dropout):
            rows.append(("dropout", module.p))
        elif isinstance(module, nn.Flatten):
            rows.append("flatten")
        elif isinstance(module, nn.Linear):
            rows.append(("dense", module.out_features))
    return rows


def parameters_of(table: list, shape: tuple[int, int, int]) -> int:
    """Weights and biases that the rows of a table ask for."""
    channels, height, width = shape
    units, total = 0, 0
    for row in table:
        if row == "pool":
            height, width = height // 2, width // 2
        elif row == "flatten":
            units = channels * height * width
        elif row[0] == "conv":
            total += row[1] * (channels * row[2] ** 2 + 1)
            channels, height, width = row[1], height - row[2] + 1, width - row[2] + 1
        elif row[0] == "dense":
            total += row[1] * (units + 1)
            units = row[1]
    return total


@pytest.mark.parametrize(
    ("name", "table", "shape"),
    [
        ("dia", TABLE_3, (1, 51, 153)),
        ("dia_depth", TABLE_3, (3, 51, 51)),
        ("nodia", TABLE_4, (1, 51, 102)),
        ("nodia_depth", TABLE_4, (2, 51, 51)),
        ("nodia_table6", TABLE_6, (1, 51, 102)),
        ("nodia_table7", TABLE_7, (1, 51, 102)),
        ("nodia_table8", TABLE_8, (1, 51, 102)),
        ("nodia_table9", TABLE_9, (1, 51, 102)),
    ],
)
def test_layers_and_weights_are_those_of_the_table(name, table, shape):
    network, inputs = from_config(name)
    assert inputs.shape == shape
    assert layers_of(network) == table
    assert sum(p.numel() for p in network.parameters()) == parameters_of(table, shape)
    assert network(torch.zeros(2, *shape)).shape == (2, 2)


# 14,714,688 weights: VGG16 without its classifier (Simonyan & Zisserman 2014, configuration D).
# 23,500,352: ResNet50-V2 without its classifier and without biases before normalisation.
@pytest.mark.parametrize(
    ("name", "convolutions", "flat"),
    [("vgg16", 14_714_688, 512), ("resnet50v2", 23_500_352, 2048 * 2 * 2)],
)
def test_backbones_have_the_head_of_table_5(name, convolutions, flat):
    if name == "resnet50v2":
        pytest.importorskip("timm")
    network, inputs = from_config(name)
    assert inputs.shape == (3, 51, 51)
    assert sum(p.numel() for p in network.convolutions.parameters()) == convolutions
    kinds = [type(m).__name__ for m in network.head]
    assert kinds == ["Dropout", "Flatten", "Linear", "ReLU", "Linear"]
    assert network.head[0].p == 0.4
    assert [m.in_features for m in network.head if isinstance(m, nn.Linear)] == [flat, 32]
    assert network(torch.zeros(2, 3, 51, 51)).shape == (2, 2)


def test_resnet_activates_before_it_convolves():
    pytest.importorskip("timm")
    network, _ = from_config("resnet50v2")
    block = network.convolutions.stages[1].blocks[1]
    assert [name for name, _ in block.named_children()][:2] == ["norm1", "conv1"]


def test_pretrained_weights_come_from_a_file(tmp_path):
    first = BackboneCNN((3, 51, 51), "vgg16")
    # As torchvision publishes them: the convolutions under "features.", a classifier beside.
    published = {f"features.{k}": v for k, v in first.convolutions.state_dict().items()}
    published["classifier.0.weight"] = torch.zeros(2, 2)
    torch.save(published, tmp_path / "vgg16.pth")
    second = BackboneCNN((3, 51, 51), "vgg16", weights=tmp_path / "vgg16.pth")
    for name, value in first.convolutions.state_dict().items():
        assert torch.equal(value, second.convolutions.state_dict()[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file"),
        (b"no weights", "damaged, or holds more than plain weights"),
        ([1, 2], "not a table of weights"),
        ({"0.weight": torch.zeros(2)}, "does not hold the weights of vgg16"),
    ],
)
def test_wrong_files_of_weights_are_refused(tmp_path, content, message):
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(UserError, match=message):
        BackboneCNN((3, 51, 51), "vgg16", weights=file)


def test_backbones_need_three_channels_and_a_known_name():
    with pytest.raises(UserError, match="three channels, not 1.*stacking=depth"):
        BackboneCNN((1, 51, 153), "vgg16")
    with pytest.raises(UserError, match="choose vgg16 or resnet50v2"):
        BackboneCNN((3, 51, 51), "alexnet")

"""Backbones made for photographs, with the paper's head on top (section 4.3, Table 5)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.cnn import keras_initialisation


class BackboneCNN(nn.Module):
    """Convolutions of a well-known architecture, then dropout and dense layers (Table 5).

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of the input; three channels, as photographs have.
    architecture : str
        `vgg16` (Simonyan & Zisserman 2014, from torchvision) or `resnet50v2` (He et al.
        2016: activation before convolution, from timm).
    dropout : float
        Rate between the convolutions and the dense layers.
    dense : sequence of int
        Widths of the hidden dense layers.
    weights : path, optional
        File with trained weights of the convolutions: a state dict (.pth, .pt) or, for
        `resnet50v2`, .safetensors, as torchvision and timm publish them; layers of their
        own classifier in it are left out. By default the weights are random, as that
        library draws them.
    n_classes : int
        Outputs. Class 0 is real, class 1 bogus.

    Raises
    ------
    UserError
        If the architecture is not known, the input has not three channels, a library is
        missing, or the file of weights does not fit.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        architecture: str,
        dropout: float = 0.4,
        dense: Sequence[int] = (32,),
        weights: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
    ) -> None:
        super().__init__()
        if architecture not in _ARCHITECTURES:
            raise UserError(
                f"model.network.architecture is '{architecture}'; choose "
                f"{' or '.join(_ARCHITECTURES)}"
            )
        if input_shape[0] != 3:
            raise UserError(
                f"model.inputs: {architecture} takes three channels, not {input_shape[0]}; use "
                "channels=[diff, srch, tmpl] and stacking=depth"
            )
        self.architecture = architecture
        self.convolutions = _ARCHITECTURES[architecture]()
        if weights is not None:
            _load(self.convolutions, Path(weights), architecture)
        with torch.no_grad():
            self.convolutions.eval()
            shape = self.convolutions(torch.zeros(1, *input_shape)).shape
            self.convolutions.train()
        layers: list[nn.Module] = [nn.Dropout(dropout), nn.Flatten()]
        features = int(shape[1:].numel())
        for units in dense:
            layers += [nn.Linear(features, int(units)), nn.ReLU()]
            features = int(units)
        layers.append(nn.Linear(features, n_classes))
        self.head = nn.Sequential(*layers)
        self.head.apply(keras_initialisation)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, n_classes) of prepared stamps (N, 3, H, W)."""
        return self.with_embedding(x)[0]

    def with_embedding(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the last hidden layer (N, E), of prepared stamps (N, 3, H, W)."""
        hidden = self.head[:-1](self.convolutions(x))
        return self.head[-1](hidden), hidden


def _vgg16() -> nn.Module:
    from torchvision.models import vgg16

    return vgg16(weights=None).features


def _resnet50v2() -> nn.Module:
    try:
        import timm
    except ImportError:
        raise UserError(
            "model=resnet50v2 needs the package timm; pip install 'rb[backbones]'"
        ) from None
    return timm.create_model("resnetv2_50", pretrained=False, num_classes=0, global_pool="")


_ARCHITECTURES = {"vgg16": _vgg16, "resnet50v2": _resnet50v2}


def _load(convolutions: nn.Module, file: Path, architecture: str) -> None:
    wanted = convolutions.state_dict()
    given = _read(file)
    # torchvision keeps the convolutions of VGG16 under "features."
    given = {name.removeprefix("features."): value for name, value in given.items()}
    missing = [name for name in wanted if name not in given]
    shapes = [n for n in wanted if n in given and given[n].shape != wanted[n].shape]
    if missing or shapes:
        raise UserError(
            f"model.network.weights: {file} does not hold the weights of {architecture} "
            f"({(missing + shapes)[0]} is missing or has another shape)"
        )
    convolutions.load_state_dict({name: given[name] for name in wanted})


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"model.network.weights: there is no file {file}") from None
    except Exception as error:  # torch raises a different type for each kind of damage
        raise UserError(
            f"model.network.weights: {file} is damaged, or holds more than plain weights "
            f"({type(error).__name__})"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise UserError(f"model.network.weights: {file} is not a table of weights (state dict)")
    return found

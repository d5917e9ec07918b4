"""A network that looks at whole images: for each pixel, whether something new is centred there."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rb.errors import UserError
from rb.models.modern.matching import common_psf
from rb.models.modern.operations import asinh, full_precision
from rb.models.modern.psf import log_width, pair_psfs, read_side

_FOLD = 2  # px along a side that are folded into channels
_SIDE = ("psf", "sky_noise_srch", "sky_noise_tmpl")


class DenseNetwork(nn.Module):
    """Fully convolutional network on a pair of images, without a difference image.

    It sees asinh(pixel / noise of the sky) of both images; with `compare` also the pair at a
    common PSF, search convolved with the template's and template with the search image's, one
    minus the other over the noise of that. The widths of both PSFs and the ratio of the noises
    shift every channel.

    Parameters
    ----------
    input_shape : sequence of int
        (2, S, S); the network itself takes images of any even size.
    n_side : int
        Length of the side vector: both PSFs, both noises.
    side : sequence of str
        ``psf``, ``sky_noise_srch``, ``sky_noise_tmpl``.
    compare : bool
        Whether the pair is compared at a common PSF. Without it nothing is subtracted anywhere.
    width : int
        Channels.
    dilations : sequence of int
        Of the residual 3x3 convolutions, at half the resolution.
    """

    searches = True
    """It judges no stamps, see `rb.models.contract.check_judges`."""

    def __init__(
        self,
        input_shape: Sequence[int],
        n_side: int = 0,
        side: Sequence[str] = _SIDE,
        compare: bool = True,
        width: int = 24,
        dilations: Sequence[int] = (1, 1, 2, 4, 2, 1),
    ) -> None:
        super().__init__()
        if input_shape[0] != 2 or set(side) != set(_SIDE):
            raise UserError(
                "model.inputs: the dense network takes channels [srch, tmpl] in depth and side "
                f"[{', '.join(_SIDE)}]"
            )
        self.side = tuple(side)
        self.compare = compare
        planes = 3 if compare else 2
        self.first = nn.Conv2d(planes * _FOLD**2, width, 3, padding=1)
        self.conditions = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d) for d in dilations
        )
        norms = [nn.BatchNorm2d(width) for _ in dilations]
        self.norms = nn.ModuleList(norms)
        self.last = nn.Conv2d(width, _FOLD**2, 1)
        for norm in norms:
            nn.init.constant_(norm.weight, 0.5)
        # Hardly a pixel has something new: without this the first steps go into learning that.
        assert self.last.bias is not None
        nn.init.constant_(self.last.bias, -5.0)
        # Of probabilities, see `rb.scan.calibration`; found after training.
        self.slope: Tensor
        self.offset: Tensor
        self.register_buffer("slope", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))
        self.register_load_state_dict_pre_hook(_without_comparison)
        self.reach = _FOLD * (1 + sum(dilations)) + 1
        """Pixels on each side that an answer depends on, beside half a PSF."""

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        """Logits (n, S, S') of a pair (n, 2, S, S') without sky, on one flux scale."""
        with full_precision(x.device.type):
            planes, scalars = self.planes(x.float(), side.float())
        folded = F.pixel_unshuffle(planes, _FOLD).contiguous(memory_format=torch.channels_last)
        out = self.first(folded) + self.conditions(scalars)[:, :, None, None]
        for block, norm in zip(self.blocks, self.norms, strict=True):
            out += F.relu(norm(block(F.relu(out))), inplace=True)
        logits = F.pixel_shuffle(self.last(F.relu(out)), _FOLD)[:, 0]
        return logits if self.training else self.slope * logits + self.offset

    def planes(self, x: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolutions see: planes (n, 2 or 3, S, S') and scalars (n, 3)."""
        values, psf = read_side(side, self.side)
        noise = tuple(values[name].clamp(min=1e-20) for name in _SIDE[1:])
        psfs, known = pair_psfs({}, psf, x[:, 0, 0, 0], 25)
        planes = [asinh(x[:, i] / noise[i][:, None, None]) for i in range(2)]
        if self.compare:
            pair = common_psf(
                x[:, 0], x[:, 1], (noise[0], noise[1]), psfs, known, torch.ones_like(known)
            )
            planes.append(asinh(pair.search - pair.template))
        scalars = [*log_width(psfs).unbind(1), torch.log(noise[1] / noise[0]).clamp(-5, 5)]
        return torch.stack(planes, 1), torch.stack(scalars, 1)


def _without_comparison(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: Any
) -> None:
    """Let weights of a network that compares start one that does not: it is told the rest."""
    weight = state_dict.get(f"{prefix}first.weight")
    if isinstance(module, DenseNetwork) and not module.compare and weight is not None:
        state_dict[f"{prefix}first.weight"] = weight[:, : module.first.in_channels]


def fused(network: DenseNetwork) -> DenseNetwork:
    """The same network, in evaluation mode, with its normalisations inside its convolutions."""
    network = copy.deepcopy(network)
    for i, (block, norm) in enumerate(zip(network.blocks, network.norms, strict=True)):
        assert isinstance(block, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        network.blocks[i], network.norms[i] = fuse_conv_bn_eval(block, norm), nn.Identity()
    return network

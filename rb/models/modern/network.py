"""One network for both sides: with the difference image among its channels, or without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.models.layers import mean_logits
from rb.models.modern.pixelwise import PixelwiseTrunk
from rb.models.modern.planes import InputPlanes
from rb.models.modern.residual import ResidualTrunk
from rb.stamps.augment import DIHEDRAL, turned

_TRUNKS = {"residual": ResidualTrunk, "pixelwise": PixelwiseTrunk}


class StampNetwork(nn.Module):
    """Channels, matched planes and conditions to two logits.

    Normalisation and matching are part of the network, so it is fed raw pixels.

    Parameters
    ----------
    input_shape : (int, int, int)
        Channels, height and width of the input, stacked in depth.
    channels : sequence of str
        Names of the channels.
    side : sequence of str
        Names of the side information that the network is called with.
    matching : sequence of str
        Planes of `rb.models.modern.matching.Matching` to add; none by default.
    conditions : bool
        Whether the network is told the widths of the two PSFs.
    trunk : str
        ``residual`` or ``pixelwise``.
    width : int
        Filters of the first stage.
    hidden : int
        Length of the embedding, the last hidden layer.
    dropout : float
        Rate after the embedding.
    tta : bool
        Average the probabilities over the eight turns and mirror images of a stamp, when the
        network is evaluated; eight times the work of the trunk, while the planes are made once.
    n_classes : int
        Outputs. Class 0 is real, class 1 bogus.
    n_side : int
        Length of the side vector.
    **planes
        Further settings of `InputPlanes`.

    Raises
    ------
    UserError
        If the inputs do not suit, or the trunk is not known.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        channels: Sequence[str],
        side: Sequence[str] = (),
        matching: Sequence[str] = (),
        conditions: bool = False,
        trunk: str = "residual",
        width: int = 24,
        hidden: int = 64,
        dropout: float = 0.2,
        tta: bool = False,
        n_classes: int = 2,
        n_side: int = 0,
        **planes: Any,
    ) -> None:
        super().__init__()
        if trunk not in _TRUNKS:
            raise UserError(f"model.network.trunk is '{trunk}'; choose {' or '.join(_TRUNKS)}")
        if bool(side) != bool(n_side):
            raise UserError(
                f"model.network.side is {list(side)}, but model.inputs.side gives {n_side} "
                "numbers; give both the same names"
            )
        self.tta = tta
        self.planes = InputPlanes(input_shape, channels, side, matching, conditions, **planes)
        self.trunk = _TRUNKS[trunk](self.planes.names, self.planes.n_scalars, width)
        self.hidden = nn.Sequential(nn.Linear(self.trunk.n_features, hidden), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, n_classes))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Logits (n, n_classes) of raw stamps (n, C, S, S) and their side vectors (n, m)."""
        return self.classify(*self.planes(x, side))

    def classify(self, planes: Tensor, scalars: Tensor) -> Tensor:
        """Logits of planes and scalars that `planes` made; they can be made once and kept."""
        return self._judged(planes, scalars)[0]

    def with_embedding(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits, and the last hidden layer (n, hidden).

        Candidates that look alike lie close together in it.
        """
        return self._judged(*self.planes(x, side))

    def _judged(self, planes: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        if self.training or not self.tta:
            hidden = self.features(planes, scalars)
            return self.head(hidden), hidden
        seen = [self.features(turned(planes, element), scalars) for element in DIHEDRAL]
        return mean_logits([self.head(hidden) for hidden in seen]), torch.stack(seen).mean(0)

    def features(self, planes: Tensor, scalars: Tensor) -> Tensor:
        """The last hidden layer (n, hidden) for planes and scalars."""
        planes = planes.contiguous(memory_format=torch.channels_last)
        return self.hidden(self.trunk(planes, scalars))

    def kernel(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Pictures of the kernels that match template to search; see `InputPlanes.kernel`."""
        return self.planes.kernel(x, side)

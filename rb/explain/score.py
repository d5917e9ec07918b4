"""What attribution methods differentiate: a network as a function of its panels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rb.stamps.inputs import InputSpec


class PanelScore(nn.Module):
    """A network that takes its panels apart from each other, (N, C, S, S).

    Side by side or in depth, the panels are put together inside, so that every map has the
    same shape and no occluding window lies across two images.

    Parameters
    ----------
    network : Module
        Stacked stamps in, logits (N, 2) out.
    inputs : InputSpec
        How the panels are stacked.
    score : {"softmax", "logit", "log_odds"}
        What comes out for each class. `softmax`: its probability minus one, which has the
        derivatives and differences of the probability and loses none of them to rounding
        where the probability is nearly one. `logit`: the output before the softmax.
        `log_odds`: its logit minus that of the other class.
    """

    def __init__(self, network: nn.Module, inputs: InputSpec, score: str = "softmax") -> None:
        super().__init__()
        self.network = network
        self.stacking = inputs.stacking
        self.score = score

    def logits(self, panels: Tensor) -> Tensor:
        """Logits (N, 2), float64, of prepared panels (N, C, S, S)."""
        if self.stacking == "horizontal":
            panels = torch.cat(panels.unbind(1), -1).unsqueeze(1)
        return self.network(panels).double()

    def forward(self, panels: Tensor) -> Tensor:
        """Scores (N, 2), float64, of prepared panels (N, C, S, S)."""
        logits = self.logits(panels)
        if self.score == "logit":
            return logits
        if self.score == "log_odds":
            return logits - logits.flip(1)
        return -logits.softmax(1).flip(1)


def unstack(prepared: Tensor, inputs: InputSpec) -> Tensor:
    """A network's input (N, *inputs.shape) by panel, (N, C, S, S)."""
    if inputs.stacking == "depth":
        return prepared
    return torch.stack(prepared[:, 0].split(inputs.size, dim=-1), 1)

"""Pixel importance of single stamps by several methods, all from Captum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rb.errors import UserError
from rb.explain.score import PanelScore, unstack
from rb.explain.settings import AttributionSettings
from rb.models.contract import Scorer, required_network, sees_stamps
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import CHANNELS


class Explainer:
    """Maps of what a network looks at.

    Parameters
    ----------
    network : Module
        In evaluation mode; stacked stamps in, logits (N, 2) out.
    inputs : InputSpec
        Channels, scaling and stacking.
    settings : AttributionSettings
        How the maps are computed.

    Raises
    ------
    UserError
        If the network takes more than images, or the occluding square is larger than they are.
    """

    def __init__(
        self, network: nn.Module, inputs: InputSpec, settings: AttributionSettings
    ) -> None:
        more = [c for c in inputs.channels if c not in CHANNELS] + list(inputs.side)
        if more:
            raise UserError(
                f"maps show where in its images a network looks; this one also takes "
                f"{', '.join(more)}; choose one without"
            )
        if settings.occlusion_window > inputs.size:
            raise UserError(
                f"study.occlusion.window is {settings.occlusion_window}; give a whole number from "
                f"1 to {inputs.size}, the side of a stamp"
            )
        self.inputs = inputs
        self.settings = settings
        self.network = network
        self._score = PanelScore(network, inputs, settings.score)
        self._device = next(network.parameters()).device

    @classmethod
    def of(cls, model: Scorer, settings: AttributionSettings | None = None) -> Explainer:
        """The explainer of a trained model; UserError if there is no network inside."""
        network, inputs = required_network(model), model.inputs
        assert sees_stamps(inputs)
        return cls(network, inputs, settings or AttributionSettings())

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the panels, in the order of the maps' second axis."""
        return self.inputs.channels

    def panels(self, stamps: np.ndarray) -> Tensor:
        """Raw stamps (N, 3, S, S) scaled as the network needs them, (N, C, S, S)."""
        return unstack(self.inputs.prepare(np.asarray(stamps)), self.inputs).to(self._device)

    def probabilities(self, panels: Tensor) -> Tensor:
        """Softmax (N, 2), float64, of prepared panels; column 0 is real."""
        size = self.settings.batch_size
        with torch.inference_mode():
            parts = [self._score.logits(part).softmax(1) for part in panels.split(size)]
        return torch.cat(parts) if parts else torch.empty(0, 2, dtype=torch.float64)

    def classes(self, panels: Tensor) -> Tensor:
        """The predicted class of each stamp (N,), the one with the larger score."""
        return self.probabilities(panels).argmax(1)

    def baseline(self, panels: Tensor) -> Tensor:
        """What takes the place of pixels that are taken away, (N, C, 1, 1)."""
        if self.settings.baseline == "zero":
            return torch.zeros_like(panels[..., :1, :1])
        return panels.flatten(2).median(-1).values[..., None, None]

    def attribute(
        self,
        panels: Tensor,
        method: str = "saliency",
        classes: Tensor | None = None,
        tick: Callable[[int], Any] = lambda n: None,
    ) -> np.ndarray:
        """Attribution of the predicted class's score to each pixel.

        Parameters
        ----------
        panels
            Prepared panels (N, C, S, S).
        method
            `saliency`: absolute derivative (paper, Eq. 3; Simonyan et al. 2014,
            arXiv 1312.6034). `smoothgrad`: absolute value of the derivative averaged over
            noisy copies (Smilkov et al. 2017, arXiv 1706.03825). `integrated_gradients`:
            share of each pixel in the difference of the score to that of the baseline
            (Sundararajan et al. 2017, arXiv 1703.01365). `occlusion`: how much the score
            falls where a square is covered by the baseline, averaged over the squares that
            cover a pixel (Zeiler & Fergus 2014, arXiv 1311.2901).
        classes
            (N,) whose score; the predicted ones if None.
        tick
            Called with the number of stamps done since the last call.

        Returns
        -------
        ndarray
            float64 (N, C, S, S), by panel. Not negative for `saliency` and
            `smoothgrad`; for the others positive where a pixel speaks for the class.
        """
        compute, evaluations = self._methods()[method]
        if classes is None:
            classes = self.classes(panels)
        out = np.empty(panels.shape, dtype=np.float64)
        size = max(1, self.settings.batch_size // evaluations)
        # Noise is drawn here, and nobody else's random numbers are touched.
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            for start in range(0, len(panels), size):
                rows = slice(start, start + size)
                part = panels[rows].detach().clone().requires_grad_()
                out[rows] = compute(part, classes[rows]).detach().double().cpu().numpy()
                tick(len(part))
        return out

    def _methods(self) -> dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]]:
        """By name: the function, and how often it evaluates the network at once per stamp."""
        s = self.settings
        return {
            "saliency": (self._saliency, 1),
            "smoothgrad": (self._smoothgrad, s.smoothgrad_samples),
            "integrated_gradients": (self._integrated_gradients, s.integrated_gradients_steps),
            "occlusion": (self._occlusion, 8),
        }

    def _saliency(self, panels: Tensor, classes: Tensor) -> Tensor:
        from captum.attr import Saliency

        if self.settings.score == "logit":
            return Saliency(self._score).attribute(panels, target=classes)
        # With two classes p = σ(log-odds), so dp/dI = p (1 - p) d(log-odds)/dI. Taken in
        # one step, the derivative of a softmax that has rounded to one would be zero.
        log_odds = PanelScore(self.network, self.inputs, "log_odds")
        slope = Saliency(log_odds).attribute(panels, target=classes).double()
        return slope * self.probabilities(panels).prod(1)[:, None, None, None]

    def _smoothgrad(self, panels: Tensor, classes: Tensor) -> Tensor:
        from captum.attr import NoiseTunnel, Saliency

        # The tunnel knows one σ for all of its input. So its input is the noise, in units of
        # each panel's own, and the stamps ride along.
        noise = _sky_noise(panels)
        noisy = _NoisyScore(self._score)
        attributions = NoiseTunnel(Saliency(noisy)).attribute(
            torch.zeros_like(panels),
            nt_samples=self.settings.smoothgrad_samples,
            stdevs=self.settings.smoothgrad_noise,
            target=classes,
            additional_forward_args=(panels, noise),
            abs=False,
        )
        return (attributions.double() / noise).abs()

    def _integrated_gradients(self, panels: Tensor, classes: Tensor) -> Tensor:
        from captum.attr import IntegratedGradients

        return IntegratedGradients(self._score).attribute(
            panels,
            baselines=self.baseline(panels).expand_as(panels),
            target=classes,
            n_steps=self.settings.integrated_gradients_steps,
            method="gausslegendre",
        )

    def _occlusion(self, panels: Tensor, classes: Tensor) -> Tensor:
        from captum.attr import Occlusion

        window, stride = self.settings.occlusion_window, self.settings.occlusion_stride
        with torch.no_grad():
            return Occlusion(self._score).attribute(
                panels,
                sliding_window_shapes=(1, window, window),
                strides=(1, stride, stride),
                baselines=self.baseline(panels).expand_as(panels),
                target=classes,
                perturbations_per_eval=8,
            )


class _NoisyScore(nn.Module):
    """The score as a function of noise, given in units of `sigma`, added to the panels."""

    def __init__(self, score: PanelScore) -> None:
        super().__init__()
        self.score = score

    def forward(self, noise: Tensor, panels: Tensor, sigma: Tensor) -> Tensor:
        return self.score(panels + sigma * noise)


def _sky_noise(panels: Tensor) -> Tensor:
    """Noise of each panel's sky (N, C, 1, 1), from the median absolute deviation."""
    flat = panels.flatten(2)
    deviation = (flat - flat.median(-1, keepdim=True).values).abs()
    noise = 1.4826 * deviation.median(-1).values
    # Where most pixels are equal (masked, saturated), what varies is the rest.
    noise = torch.where(noise > 0, noise, flat.std(-1)).clamp(min=1e-6)
    return noise[..., None, None]

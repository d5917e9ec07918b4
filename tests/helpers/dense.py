"""A search of images that needs no training: it finds what the matched comparison shows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from rb.scan.task import DenseClassifier
from rb.survey.frame import simulate_frame
from rb.survey.settings import settings_from_config

INPUTS = {
    "channels": ["srch", "tmpl"],
    "stacking": "depth",
    "scaling": {"srch": "raw", "tmpl": "raw"},
    "side": ["psf", "sky_noise_srch", "sky_noise_tmpl"],
    "size": 320,
    "psf_size": 25,
}
NETWORK = {
    "_target_": "rb.models.dense.DenseNetwork",
    "side": INPUTS["side"],
    "width": 4,
    "dilations": [1],
}


def classifier() -> DenseClassifier:
    """A dense network whose logit is a multiple of the comparison of the pair, less a constant."""
    made = DenseClassifier(
        network=NETWORK, inputs=INPUTS, optimizer={"_target_": "torch.optim.SGD", "lr": 0.1}
    )
    network = made.network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for channel in range(4):  # the four pixels that were folded
            network.first.weight[channel, 8 + channel, 1, 1] = 1.0
            network.last.weight[channel, channel, 0, 0] = 5.0
        network.last.bias.fill_(-12.0)
    return made.eval()


def write_checkpoint(path: Path) -> Path:
    """Write it as `train.py` does."""
    made = classifier()
    checkpoint = {"state_dict": made.state_dict(), "epoch": 0}
    made.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


@cache
def settings(**groups: tuple):
    """A survey of small frames with few, bright supernovae and no artefacts."""
    return settings_from_config(
        {
            "seed": 3,
            "scene": {
                "frame_size": 384,
                "sn_per_frame": 12,
                "sn_mag": [20.5, 22.5],
                "star_density": 20.0,
            },
            "artefacts": {key: 0.0 for key in ("masked_cosmic_rays", "masked_columns")},
        }
    )


def write_pair(folder: Path, number: int = 0) -> tuple[Path, Path, Path]:
    """Search image, template and truth of a frame as FITS."""
    simulate_frame(settings(), number, folder)
    return tuple(folder / f"{number:05d}_{name}.fits" for name in ("search", "template", "truth"))

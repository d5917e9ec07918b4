"""Turns and mirror images of stamps: the sky has no up and no handedness."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DIHEDRAL = tuple((t, y, x) for t in (False, True) for y in (False, True) for x in (False, True))
"""The eight symmetries of the square: swap the axes, then reverse rows, then columns."""


def turned(images: Tensor, element: tuple[bool, bool, bool]) -> Tensor:
    """Apply one of `DIHEDRAL` to images (..., S, S)."""
    transpose, rows, columns = element
    if transpose:
        images = images.transpose(-1, -2)
    reversed_axes = [axis for axis, turn in ((-2, rows), (-1, columns)) if turn]
    return images.flip(reversed_axes) if reversed_axes else images


def random_elements(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Draw a symmetry for each of `n` stamps with torch's own generator: bool (3, n)."""
    return torch.randint(0, 2, (3, n), device=device, dtype=torch.int8).bool()


def turn_each(images: Tensor, elements: Tensor) -> Tensor:
    """Apply to each of n images (n, ..., S, S) its own symmetry, bool (3, n)."""
    shape = (-1, *[1] * (images.ndim - 1))
    transpose, rows, columns = (e.reshape(shape) for e in elements)
    images = torch.where(transpose, images.transpose(-1, -2), images)
    images = torch.where(rows, images.flip(-2), images)
    return torch.where(columns, images.flip(-1), images)


def augment(
    x: Tensor,
    side: Tensor | None,
    side_names: Sequence[str],
    elements: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Turn or mirror each candidate of a batch at random, its PSFs with it.

    Each of the eight symmetries of the square is equally likely.

    Parameters
    ----------
    x : Tensor (n, C, S, k·S)
        Prepared stamps, in depth or side by side.
    side : Tensor (n, m), optional
        Side vectors: PSF images and ellipticities turn too.
    side_names : sequence of str
        What the side vector holds, ``psf`` for both PSF images.
    elements : Tensor of bool (3, n), optional
        How each is turned, where that is not to be drawn here.

    Returns
    -------
    x, side
        New tensors. What is drawn depends on torch's own generator alone.
    """
    n, channels, size, width = x.shape
    elements = random_elements(n, x.device) if elements is None else elements
    # Panels side by side are turned one by one.
    panels = x.reshape(n, channels, size, width // size, size).transpose(2, 3)
    x = turn_each(panels, elements).transpose(2, 3).reshape(x.shape)
    if side is None:
        return x, None
    return x, _turned_side(side, side_names, elements)


def _turned_side(side: Tensor, names: Sequence[str], elements: Tensor) -> Tensor:
    transpose, rows, columns = elements
    side = side.clone()
    pixels = side.shape[1] - sum(name != "psf" for name in names)
    start = 0
    for name in names:
        stop = start + (pixels if name == "psf" else 1)
        part = side[:, start:stop]
        if name == "psf":
            width = round((pixels // 2) ** 0.5)
            side[:, start:stop] = turn_each(part.reshape(-1, 2, width, width), elements).flatten(1)
        elif "_e1_" in name:  # along the axes: swapping them changes its sign
            side[:, start:stop] = torch.where(transpose[:, None], -part, part)
        elif "_e2_" in name:  # along the diagonal: each reversal changes its sign
            side[:, start:stop] = torch.where((rows ^ columns)[:, None], -part, part)
        start = stop
    return side

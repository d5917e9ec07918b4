"""Stamps and maps drawn into axes: grey for search and template, blue-red for the difference."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from rb.figures.limits import diff_limits, grey_limits
from rb.figures.style import INK

EMPTY = "#F4F4F4"
"""Ground of a panel whose image is missing."""

_NAN_COLOR = "#F2C14E"  # stands out of grey, of blue-red and of green


def grey_scale(images: np.ndarray) -> Normalize:
    """An asinh stretch between the limits of `rb.figures.limits.grey_limits`."""
    from astropy.visualization import AsinhStretch, ImageNormalize

    low, high = grey_limits(images)
    return ImageNormalize(vmin=low, vmax=high, stretch=AsinhStretch(0.15), clip=True)


def show_grey(axes: Axes, image: np.ndarray, scale: Normalize, left: float | None = None) -> None:
    """Search or template; arguments as for `show_image`."""
    show_image(axes, image, "gray", scale, left)


def show_diff(axes: Axes, image: np.ndarray, left: float | None = None) -> None:
    """A difference image from blue to red; arguments as for `show_image`."""
    show_image(axes, image, "RdBu_r", Normalize(*diff_limits(image)), left)


def show_image(
    axes: Axes, image: np.ndarray, colors: str, scale: Normalize, left: float | None = None
) -> AxesImage:
    """Pixels as they are, y upwards, NaN in yellow.

    Parameters
    ----------
    axes : Axes
        Where.
    image : ndarray, (height, width)
        What.
    colors : str
        Name of a colour map.
    scale : Normalize
        From values to colours.
    left : float, optional
        Where the image begins, in pixels from the left of axes that hold several of them, whose
        corners are whole numbers. None: it is alone there, and pixel centres are.
    """
    height, width = image.shape
    return axes.imshow(
        np.ma.masked_invalid(image),
        cmap=colormaps[colors].with_extremes(bad=_NAN_COLOR),
        norm=scale,
        origin="lower",
        interpolation="nearest",
        extent=None if left is None else (left, left + width, 0, height),
    )


def name_panel(axes: Axes, x: float, y: float, name: str, **style: Any) -> None:
    """Write `name` over an image, its upper left corner at `x`, `y` in data coordinates."""
    box = {"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 1}
    look: dict[str, Any] = {"fontsize": 6.5, "va": "top", "color": INK, "bbox": box, "zorder": 4}
    axes.text(x, y, name, **look | style)


def no_axes(axes: Axes) -> None:
    """Leave the frame, without ticks and grid."""
    axes.grid(False)
    axes.set_xticks([])
    axes.set_yticks([])


def frame_panels(axes: Axes, n: int, height: int, width: int, gap: int) -> None:
    """Frames around `n` images side by side, `gap` pixels apart, and limits that hold them."""
    from matplotlib.patches import Rectangle

    for position in range(n):
        corner = (position * (width + gap), 0)
        axes.add_patch(Rectangle(corner, width, height, fill=False, ec="#555555", lw=0.5, zorder=3))
    axes.set_xlim(-0.5, n * (width + gap) - gap + 0.5)
    axes.set_ylim(-0.5, height + 0.5)


def normalised(maps: np.ndarray) -> np.ndarray:
    """Absolute values of one candidate's maps (C, height, width), the largest being 1."""
    values = np.abs(np.nan_to_num(np.asarray(maps, dtype=np.float64)))
    top = values.max()
    return values / top if top > 0 else values

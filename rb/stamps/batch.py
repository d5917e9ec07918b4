"""Some stamps in memory, with what a set knows of them beside their pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np


class Wanted(Protocol):
    """What a model wants of a stamp set, as an `InputSpec` says it."""

    @property
    def channels(self) -> Sequence[str]:
        """Channels and variance planes."""

    @property
    def side(self) -> Sequence[str]:
        """Side information."""


@dataclass(frozen=True)
class Stamps:
    """A few stamps of a set; indexing with rows gives fewer of them.

    Parameters
    ----------
    images : ndarray of shape (n, 3, S, S)
        Raw pixel values: difference, search, template.
    variance : ndarray of shape (n, 3, S, S), optional
        Their variances, NaN where unknown.
    psf : ndarray of shape (n, 2, P, P), optional
        PSF of the search image and of the template, centred, each of sum 1.
    side : mapping of str to ndarray of shape (n,)
        Side information by column of the catalogue.
    """

    images: np.ndarray
    variance: np.ndarray | None = None
    psf: np.ndarray | None = None
    side: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, stamps: np.ndarray | Stamps) -> Stamps:
        """`stamps` themselves, or bare pixels as stamps of which nothing else is known."""
        return stamps if isinstance(stamps, Stamps) else cls(stamps)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by the names of their files in a set."""
        found = {"stamps": self.images, "variance": self.variance, "psf": self.psf}
        return {name: array for name, array in found.items() if array is not None}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> Stamps:
        return Stamps(
            self.images[rows],
            None if self.variance is None else self.variance[rows],
            None if self.psf is None else self.psf[rows],
            {name: values[rows] for name, values in self.side.items()},
        )


def as_pixels(array: np.ndarray) -> np.ndarray:
    """`array` as float32 of this machine in C order; what a masked array masks is NaN."""
    with np.errstate(over="ignore"):  # what does not fit is infinite, which everything expects
        pixels = np.ascontiguousarray(array, dtype=np.float32)
    mask = np.ma.getmask(array)
    return np.where(mask, np.float32(np.nan), pixels) if mask is not np.ma.nomask else pixels

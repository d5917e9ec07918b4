"""How unlike its reference a stamp is to a network, and which labelled examples are nearest.

A network answers whatever it is shown. In its last hidden layer, what looks alike to it lies close
together; a stamp far from all examples of the reference is one that the answer was not learned
for (nearest neighbours as in Sun et al. 2022, ICML, arXiv 2204.06507).
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rb.errors import UserError
from rb.io.files import write_whole
from rb.stamps.layout import REAL

NEIGHBOURS = 10
"""Examples whose mean distance counts."""
_QUANTILE = 0.99  # of the reference's own distances, which is a strangeness of 1
_MOST_BYTES = 256 << 20
_ARRAYS = ("embeddings", "centre", "axes", "labels", "kinds")


@dataclass(frozen=True, eq=False)
class Reference:
    """Labelled examples as a network sees them.

    Parameters
    ----------
    embeddings : ndarray of shape (n, E)
        Last hidden layer of each, float32.
    centre : ndarray of shape (E,)
        Their mean.
    axes : ndarray of shape (E, F)
        What makes all directions in which those of a class spread equally wide.
    labels : ndarray of shape (n,)
        0 real, 1 bogus.
    kinds : ndarray of shape (n,)
        What each is, str; empty where that is not known.
    unit : float
        Distance that 99 % of the examples have at most to their own neighbours.
    about : dict
        `model`, `weights_digest`, `data`, `data_digest`.
    """

    embeddings: np.ndarray
    centre: np.ndarray
    axes: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    unit: float
    about: dict[str, Any]

    @classmethod
    def of(
        cls, embeddings: np.ndarray, labels: np.ndarray, kinds: np.ndarray, about: dict[str, Any]
    ) -> Reference:
        """Make one of the embeddings (n, E) of examples.

        Raises
        ------
        UserError
            If there are too few.
        """
        if len(embeddings) < 5 * NEIGHBOURS:
            raise UserError(
                f"a reference of {len(embeddings)} labelled examples is too small; give at least "
                f"{5 * NEIGHBOURS}"
            )
        # In half precision, as they are kept, so that a file says the same as what wrote it.
        embeddings = embeddings.astype(np.float16).astype(np.float32)
        centre = embeddings.mean(0, dtype=np.float64).astype(np.float32)
        # About the mean of their class: what tells the classes apart must not count for less.
        residuals = embeddings.astype(np.float64)
        for label in np.unique(labels):
            residuals[labels == label] -= residuals[labels == label].mean(0)
        values, vectors = np.linalg.eigh(residuals.T @ residuals / len(residuals))
        kept = values > 1e-6 * values.max()
        axes = (vectors[:, kept] / np.sqrt(values[kept])).astype(np.float32)
        made = cls(embeddings, centre, axes, labels.astype(np.int8), kinds.astype(str), 1.0, about)
        distances, _ = made._neighbours(embeddings, leave_out=1)
        return cls(
            made.embeddings, centre, axes, made.labels, made.kinds,
            float(np.quantile(distances, _QUANTILE)), about,
        )  # fmt: skip

    def compare(self, embeddings: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """How unlike the examples embeddings (n, E) are, and which of them are nearest.

        Returns
        -------
        strangeness : ndarray of shape (n,)
            Mean distance to the nearest examples; 1: as far as their own strangest 1 %. Infinite
            for an embedding that is not finite.
        nearest : list of str
            What these are, such as ``7 bogus cosmic_ray, 3 real``.
        """
        distances, places = self._neighbours(embeddings)
        return distances / self.unit, [self._told(these) for these in places]

    def _told(self, places: np.ndarray) -> str:
        found = Counter(
            f"{'real' if self.labels[i] == REAL else 'bogus'} {self.kinds[i]}".strip()
            for i in places
        )
        return ", ".join(f"{n} {what}" for what, n in found.most_common())

    @cached_property
    def _own(self) -> np.ndarray:
        """The examples along the axes, (n, F)."""
        return (self.embeddings - self.centre) @ self.axes

    def _neighbours(
        self, embeddings: np.ndarray, leave_out: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean distance (n,) and places (n, NEIGHBOURS) of the nearest examples."""
        own = self._own
        own_square = (own**2).sum(1)
        distances = np.full(len(embeddings), np.inf)
        places = np.zeros((len(embeddings), NEIGHBOURS), dtype=int)
        for start in range(0, len(embeddings), 1024):
            rows = slice(start, start + 1024)
            with np.errstate(all="ignore"):
                x = (embeddings[rows] - self.centre) @ self.axes
                square = (x**2).sum(1)[:, None] + own_square - 2 * x @ own.T
            order = np.argsort(square, 1)[:, leave_out : leave_out + NEIGHBOURS]
            near = np.take_along_axis(square, order, 1).clip(0)
            found = np.sqrt(near).mean(1)
            distances[rows] = np.where(np.isfinite(found), found, np.inf)
            places[rows] = order
        return distances, places

    def save(self, path: Path) -> None:
        """Write it as ``.npz``."""
        content = io.BytesIO()
        np.savez_compressed(
            content,
            embeddings=self.embeddings.astype(np.float16),
            centre=self.centre,
            axes=self.axes,
            labels=self.labels,
            kinds=self.kinds,
            about=json.dumps(self.about | {"unit": self.unit}),
        )
        write_whole(path, content.getvalue(), "the reference")

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `save` wrote; nothing in the file is executed.

        Raises
        ------
        UserError
            If it is missing, damaged, or no such file.
        """
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("size")
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in _ARRAYS}
                about = json.loads(str(found["about"]))
            arrays["embeddings"] = arrays["embeddings"].astype(np.float32)
            unit = float(about.pop("unit"))
            n, width = arrays["embeddings"].shape
            if not (
                arrays["centre"].shape == (width,)
                and len(arrays["axes"]) == width
                and len(arrays["labels"]) == len(arrays["kinds"]) == n >= NEIGHBOURS
                and unit > 0
            ):
                raise ValueError("shapes")
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such reference") from None
        except Exception as error:  # a damaged archive raises nearly everything
            raise UserError(f"{path}: damaged, or not written by `rb reference`") from error
        return cls(**arrays, unit=unit, about=about)

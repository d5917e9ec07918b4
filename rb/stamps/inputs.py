"""What a network is fed: which of a set's pixels and numbers, scaled and put together how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.workers import ahead
from rb.stamps.batch import Stamps, as_pixels
from rb.stamps.layout import CHANNELS, IMAGES, SCALINGS, SIDE_COLUMNS, STAMP_SIZE, VARIANCES
from rb.stamps.stampset import StampSet

if TYPE_CHECKING:
    # What is exported is fed without torch, so that only `prepare` imports it.
    from torch import Tensor

STACKINGS = ("horizontal", "depth")
_READ = 1024  # stamps read from the disk at once
SIDE = (*SIDE_COLUMNS, "psf")
"""Side information that a network can be given."""


@dataclass(frozen=True)
class InputSpec:
    """What a network is fed. A saved model carries it, so that it cannot be fed wrongly.

    Parameters
    ----------
    channels : sequence of str
        Of ``diff``, ``srch``, ``tmpl`` and their variance planes ``diff_var``, ``srch_var``,
        ``tmpl_var``, in the order in which they are stacked.
    stacking : str
        ``horizontal``: side by side, S x S·C in one channel (paper, Fig. 3);
        ``depth``: C channels of S x S (paper, appendix A.2).
    scaling : mapping
        Scaling of each channel, see `scale`; ``three_sigma`` where none is given.
    size : int
        Pixels S along a side of a stamp.
    side : sequence of str
        Side information, in this order: columns of `SIDE_COLUMNS`, and ``psf`` for the pixels of
        both PSFs. A network with side information is called with it as a second argument.
    psf_size : int
        Pixels along a side of a PSF, where ``psf`` is among `side`; else 0.
    """

    channels: tuple[str, ...] = CHANNELS
    stacking: str = "horizontal"
    scaling: Mapping[str, str] = field(
        default_factory=lambda: {
            "diff": "standardise",
            "srch": "three_sigma",
            "tmpl": "three_sigma",
        }
    )
    size: int = STAMP_SIZE
    side: tuple[str, ...] = ()
    psf_size: int = 0

    def __post_init__(self) -> None:
        for name, known in (("channels", (*CHANNELS, *VARIANCES)), ("side", SIDE)):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given)
            wrong = any(c not in known for c in given) or len(set(given)) < len(given)
            if wrong or (name == "channels" and not given):
                raise UserError(
                    f"model.inputs.{name} is {list(given)}; give some of {list(known)}, each once"
                )
        if self.stacking not in STACKINGS:
            raise UserError(
                f"model.inputs.stacking is '{self.stacking}'; choose one of {', '.join(STACKINGS)}"
            )
        object.__setattr__(
            self, "scaling", {c: self.scaling.get(c, "three_sigma") for c in self.channels}
        )
        for channel, scaling in self.scaling.items():
            if scaling not in SCALINGS:
                raise UserError(
                    f"model.inputs.scaling.{channel} is '{scaling}'; choose one of "
                    f"{', '.join(SCALINGS)}"
                )
        object.__setattr__(self, "psf_size", self.psf_size if "psf" in self.side else 0)
        for name, least in (("size", 1), ("psf_size", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"model.inputs.{name} is {value!r}; give a number of pixels")

    @classmethod
    def from_config(cls, inputs: Mapping[str, Any], stamp_set: StampSet | None = None) -> InputSpec:
        """What the configuration ``model.inputs`` describes; sizes left out are those of the set.

        Raises
        ------
        UserError
            If a key is unknown or its value makes no sense.
        """
        unknown = set(inputs) - {f.name for f in fields(cls)}
        if unknown:
            raise UserError(f"model.inputs.{sorted(unknown)[0]}: there is no such setting")
        given = {key: value for key, value in inputs.items() if value is not None}
        if stamp_set is not None and stamp_set.channels:
            given = {"size": stamp_set.stamp_size, "psf_size": _psf_size(stamp_set)} | given
        return cls(**given)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the tensor that the network sees."""
        if self.stacking == "depth":
            return len(self.channels), self.size, self.size
        return 1, self.size, self.size * len(self.channels)

    @property
    def n_side(self) -> int:
        """Numbers of side information a stamp."""
        pixels = len(IMAGES) * self.psf_size**2
        return sum(pixels if name == "psf" else 1 for name in self.side)

    @property
    def kind(self) -> str:
        """``dia`` if the difference image is among the channels, else ``nodia``."""
        return "dia" if {"diff", "diff_var"} & set(self.channels) else "nodia"

    def check(self, stamp_set: StampSet) -> None:
        """Raise UserError if a stamp set cannot feed this network."""
        where = stamp_set.path.name
        images = [c.removesuffix("_var") for c in self.channels]
        missing = [c for c in dict.fromkeys(images) if c not in stamp_set.channels]
        if not stamp_set.channels:
            raise UserError(
                f"{where}: the network needs stamps ({', '.join(missing)}), but these are "
                "features without stamps; choose model=autoscan or other data"
            )
        if missing:
            raise UserError(
                f"{where}: the network needs {', '.join(missing)}, but the stamp set has only "
                f"{', '.join(stamp_set.channels)}; choose a model without it (model=nodia) or "
                "other data"
            )
        if self.size != stamp_set.stamp_size:
            raise UserError(
                f"{where}: the network takes stamps of {self.size} px, these have "
                f"{stamp_set.stamp_size}; choose a model for that size, or build the set with "
                f"data.stamp_size={self.size} where its source can"
            )
        wanted = {"variance": set(self.channels) & set(VARIANCES), "psf": {"psf"} & set(self.side)}
        for array, by in wanted.items():
            if by and array not in stamp_set.arrays:
                raise UserError(
                    f"{where}: the network needs {array}.npy ({', '.join(sorted(by))}), which the "
                    "set does not have; leave it out of model.inputs, or build the set with it "
                    "(data=simulated: data.planes)"
                )
        if self.psf_size and self.psf_size != _psf_size(stamp_set):
            raise UserError(
                f"{where}: the network takes PSFs of {self.psf_size} px, these have "
                f"{_psf_size(stamp_set)}; choose a model for that size"
            )
        columns = [c for c in self.side if c != "psf" and c not in stamp_set.column_names]
        if columns:
            raise UserError(
                f"{where}: the network needs {', '.join(columns)}, which the catalogue does not "
                "have; leave it out of model.inputs.side or choose other data"
            )

    def pieces(
        self, stamp_set: StampSet, rows: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, Stamps]]:
        """What a model takes of candidates of a set, the next piece read while one is worked on.

        Parameters
        ----------
        stamp_set : StampSet
            The candidates.
        rows : int array, (n,), optional
            Which of them, in any order; all by default.

        Yields
        ------
        places : int array
            Where in `rows` these candidates are.
        stamps : Stamps
            Of them.

        Raises
        ------
        UserError
            If the set cannot feed the model.
        """
        self.check(stamp_set)
        rows = np.arange(len(stamp_set)) if rows is None else np.asarray(rows)
        order = np.argsort(rows)  # as they lie in the file

        def read(places: np.ndarray) -> Stamps:
            these = rows[places]
            first, last = int(these[0]), int(these[-1]) + 1
            whole = last - first == len(these) and (np.diff(these) == 1).all()
            return stamp_set.read(slice(first, last) if whole else these, self)

        parts = (order[start : start + _READ] for start in range(0, len(rows), _READ))
        return ahead((places, read(places)) for places in parts)

    def prepare(self, stamps: np.ndarray | Stamps, chunk: int = 64) -> Tensor:
        """Raw stamps to the network's input.

        Parameters
        ----------
        stamps : ndarray of shape (n, 3, S, S), or Stamps
            Raw values.
        chunk : int
            Stamps that are scaled at once.

        Returns
        -------
        Tensor of shape `(n, *shape)`
            float32, finite.

        Raises
        ------
        UserError
            If the stamps have another shape, or lack the variances.
        """
        import torch

        from rb.stamps.scaling import scale

        stamps = self.checked(stamps)
        planes = [self._plane(stamps, channel) for channel in self.channels]
        out = torch.empty((len(stamps), *self.shape))
        for start in range(0, len(stamps), chunk):
            rows = slice(start, start + chunk)
            scaled = [
                scale(plane[rows], self.scaling[channel])
                for channel, plane in zip(self.channels, planes, strict=True)
            ]
            if self.stacking == "depth":
                out[rows] = torch.stack(scaled, 1)
            else:
                out[rows, 0] = torch.cat(scaled, -1)
        return out

    def checked(self, stamps: np.ndarray | Stamps) -> Stamps:
        """`stamps`; UserError if they have another shape than the model takes."""
        stamps = Stamps.of(stamps)
        shape = stamps.images.shape
        if len(shape) != 4 or shape[1:] != (len(CHANNELS), self.size, self.size):
            size = f"{len(CHANNELS)}, {self.size}, {self.size}"
            raise UserError(
                f"stamps have shape {shape}, the model takes (N, {size}){self._how_to_cut(shape)}"
            )
        return stamps

    def _how_to_cut(self, shape: tuple[int, ...]) -> str:
        """How larger stamps are cut to this size, for a message; empty where that is not it."""
        if len(shape) != 4 or shape[2] != shape[3] or shape[2] <= self.size:
            return ""
        low = shape[2] // 2 - self.size // 2
        part = f"{low}:{low + self.size}"
        return f"; cut them about the candidate: stamps[:, :, {part}, {part}]"

    @staticmethod
    def _plane(stamps: Stamps, channel: str) -> np.ndarray:
        if channel in CHANNELS:
            return stamps.images[:, CHANNELS.index(channel)]
        if stamps.variance is None:
            raise UserError(f"the model takes {channel}, but the stamps came without variances")
        return stamps.variance[:, VARIANCES.index(channel)]

    def prepare_side(self, stamps: np.ndarray | Stamps) -> Tensor | None:
        """Side information of stamps as the network gets it.

        Parameters
        ----------
        stamps : ndarray of shape (n, 3, S, S), or Stamps
            With `side` and `psf`.

        Returns
        -------
        Tensor of shape (n, n_side), or None
            float32, in the order of `side` and in the units of the set; what is unknown (NaN) is
            0. None for a network without side information.

        Raises
        ------
        UserError
            If the stamps lack it.
        """
        import torch

        side = self.side_vector(stamps)
        return None if side is None else torch.from_numpy(np.where(np.isfinite(side), side, 0.0))

    def side_vector(self, stamps: np.ndarray | Stamps) -> np.ndarray | None:
        """What `prepare_side` gives, as an array in which the unknown is still NaN."""
        if not self.side:
            return None
        stamps = Stamps.of(stamps)
        parts = []
        for name in self.side:
            values = stamps.psf if name == "psf" else stamps.side.get(name)
            if values is None:
                raise UserError(f"the model takes {name}, but the stamps came without it")
            values = as_pixels(values)
            parts.append(values.reshape(len(stamps), math.prod(values.shape[1:])))
        side = np.concatenate(parts, 1)
        if side.shape[1] != self.n_side:
            raise UserError(f"the model takes PSFs of {self.psf_size} px, these have another size")
        return side

    def tensors(self, stamps: np.ndarray | Stamps) -> tuple[Tensor, ...]:
        """What the network is called with: stamps and, if it wants any, side information."""
        side = self.prepare_side(stamps)
        return (self.prepare(stamps),) if side is None else (self.prepare(stamps), side)

    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for checkpoints and configuration."""
        return asdict(self) | {
            "channels": list(self.channels),
            "scaling": dict(self.scaling),
            "side": list(self.side),
        }


def _psf_size(stamp_set: StampSet) -> int:
    return 0 if stamp_set.psf is None else stamp_set.psf.shape[-1]

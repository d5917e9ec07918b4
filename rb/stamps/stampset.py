"""What a stamp set is: a folder, written once, then read-only.

=====================  =======================================================
``stamps.npy``         float32, N x 3 x S x S, channels diff, srch, tmpl, raw values
``variance.npy``       optional: their variances, as large
``psf.npy``            optional: float32, N x 2 x P x P, PSFs of srch and tmpl
``catalogue.parquet``  one row a stamp: ``id``, ``label``, ``group`` and more
``meta.json``          format version, sizes, source and its parameters, digest
``<table>.parquet``    side tables that the source adds, listed in ``meta.json``
=====================  =======================================================

``meta.json`` is written last, in a temporary folder that is then renamed, so a folder
of this name is a whole set or it is not one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.stamps import layout
from rb.stamps.batch import Stamps, Wanted
from rb.stamps.layout import BOGUS, CHANNELS, REAL, STAMP_SIZE, UNKNOWN, VARIANCES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BOGUS", "CHANNELS", "REAL", "STAMP_SIZE", "UNKNOWN", "StampSet"]


class StampSet:
    """A stamp set on disk, opened read-only; nothing is loaded before it is used.

    Open one with `StampSet.open`; ``meta`` holds the content of ``meta.json``.
    """

    def __init__(self, path: Path, meta: dict[str, Any], stamps: np.ndarray) -> None:
        self.path = path
        self.meta = meta
        self.stamps = stamps

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> StampSet:
        """Open the set in folder `path`.

        Raises
        ------
        UserError
            If there is no set, or it is half-built, truncated, empty, or of a format
            that this version does not read.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: there is no stamp set here; build one first")
        meta = layout.read_meta(path)
        stamps = layout.open_arrays(path, meta)["stamps"]
        if len(stamps) == 0:
            raise UserError(f"{path}: the stamp set is empty; build it from data that has stamps")
        return cls(path, meta, stamps)

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        """One row a stamp, in the order of `stamps`; `columns` reads a part of it."""
        return self._checked(layout.read_parquet(self._catalogue_file))

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """Names of the catalogue's columns."""
        return layout.parquet_columns(self._catalogue_file)

    def columns(self, names: Sequence[str], required: bool = True) -> pd.DataFrame:
        """Some columns of the catalogue, without reading the others.

        Parameters
        ----------
        names : sequence of str
            The columns.
        required : bool
            Without it, those that the catalogue lacks are left out.

        Raises
        ------
        UserError
            If the catalogue lacks one that is required.
        """
        missing = [name for name in names if name not in self.column_names]
        if not required:
            names = [name for name in names if name not in missing]
        elif missing:
            raise UserError(f"{self.path}: the catalogue has no column {', '.join(missing)}")
        if "catalogue" in self.__dict__:
            return self.catalogue[list(names)]
        return layout.read_parquet(self._catalogue_file, names)

    @property
    def _catalogue_file(self) -> Path:
        return self.path / "catalogue.parquet"

    @cached_property
    def _identity(self) -> pd.DataFrame:
        """Columns id, label, group: a wide catalogue of the whole DES archive takes gigabytes."""
        if "catalogue" in self.__dict__:
            return self.catalogue
        wanted = [c for c in ("id", "label", "group") if c in self.column_names]
        return self._checked(layout.read_parquet(self._catalogue_file, wanted))

    def _checked(self, catalogue: pd.DataFrame) -> pd.DataFrame:
        problem = layout.catalogue_problem(catalogue, len(self.stamps))
        if problem:
            raise UserError(f"{self._catalogue_file}: {problem}; build the set again")
        return catalogue

    @cached_property
    def labels(self) -> np.ndarray:
        """int8, (N,): 0 real, 1 bogus, -1 unknown."""
        return self._identity["label"].astype("Int8").fillna(UNKNOWN).to_numpy(dtype=np.int8)

    @property
    def ids(self) -> np.ndarray:
        """The candidates' identifiers, (N,)."""
        return self._identity["id"].to_numpy()

    @property
    def groups(self) -> np.ndarray:
        """What a grouped split must not tear apart (field, exposure), (N,)."""
        return self._identity["group"].to_numpy()

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the source provides; the others are NaN."""
        return tuple(self.meta["channels"])

    @property
    def digest(self) -> str:
        """SHA-256 over arrays and catalogue, as written when the set was built."""
        return str(self.meta["digest"])

    @property
    def stamps_digest(self) -> str:
        """The digest of what is on disk, also where labels were replaced since."""
        return str(self.meta["digest"])

    @property
    def name(self) -> str:
        """Survey or source, for titles."""
        return str(self.meta.get("survey") or self.meta["source"])

    @property
    def stamp_size(self) -> int:
        """Pixels along a side of a stamp."""
        return int(self.meta["stamp_size"])

    @property
    def arrays(self) -> tuple[str, ...]:
        """The optional arrays that the set has, of ``variance`` and ``psf``."""
        return tuple(self.meta["arrays"])

    @cached_property
    def variance(self) -> np.ndarray | None:
        """Variances (N, 3, S, S) of the pixels, memory-mapped; None if the set has none."""
        return self._optional("variance")

    @cached_property
    def psf(self) -> np.ndarray | None:
        """PSFs (N, 2, P, P) of search image and template, memory-mapped; None without."""
        return self._optional("psf")

    def _optional(self, name: str) -> np.ndarray | None:
        return layout.open_array(self.path / f"{name}.npy", name) if name in self.arrays else None

    @cached_property
    def _side(self) -> dict[str, np.ndarray]:
        """Columns of side information that were read."""
        return {}

    def read(self, rows: slice | np.ndarray, inputs: Wanted | None = None) -> Stamps:
        """Stamps of `rows` in memory, with what `inputs` wants beside the pixels.

        Parameters
        ----------
        rows : slice or int array of shape (n,)
            Which stamps.
        inputs : InputSpec, optional
            What is wanted; without it, all arrays and no columns.

        Returns
        -------
        Stamps
            Of n stamps. What the set lacks is None; `InputSpec.check` refuses that.
        """
        variance = psf = None
        if inputs is None or set(inputs.channels) & set(VARIANCES):
            variance = self.variance
        if inputs is None or "psf" in inputs.side:
            psf = self.psf
        names = [] if inputs is None else [name for name in inputs.side if name != "psf"]
        for name in names:
            if name not in self._side:
                self._side[name] = self.columns([name])[name].to_numpy(dtype=np.float64)
        return Stamps(
            np.array(self.stamps[rows]),
            None if variance is None else np.array(variance[rows]),
            None if psf is None else np.array(psf[rows]),
            {name: self._side[name][rows] for name in names},
        )

    def table(self, name: str) -> pd.DataFrame:
        """Side table `name`, as the source added it; UserError if there is none."""
        if name not in self.meta.get("tables", []):
            have = ", ".join(self.meta.get("tables", [])) or "none"
            raise UserError(f"{self.path}: no side table '{name}' in this set (it has: {have})")
        return layout.read_parquet(self.path / f"{name}.parquet")

    def verify(self) -> None:
        """Compare the content with the digest; UserError if it differs."""
        found = layout.digest(self.path)
        if found != self.stamps_digest:
            raise UserError(
                f"{self.path}: the content is not what was written (digest {found[:12]} instead "
                f"of {self.stamps_digest[:12]}); build the set again"
            )

    def batches(self, size: int = 4096) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (slice, stamps) of at most `size` stamps, for work that must not hold all."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, np.asarray(self.stamps[rows])

    def __len__(self) -> int:
        return len(self.stamps)

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Raw stamps of `rows`: (3, S, S) for one, (n, 3, S, S) for several."""
        if isinstance(rows, int | np.integer) and not -len(self) <= rows < len(self):
            raise IndexError(f"stamp {rows} of {len(self)}")
        return np.array(self.stamps[rows])

    def __repr__(self) -> str:
        return f"<StampSet {self.path} ({len(self)} stamps)>"

    def __str__(self) -> str:
        real, bogus, unknown = (int(np.sum(self.labels == k)) for k in (REAL, BOGUS, UNKNOWN))
        lines = [
            f"{self.name}: {len(self):,} candidates in {self.path}",
            f"  labels    {real:,} real, {bogus:,} bogus, {unknown:,} unknown",
            f"  channels  {', '.join(self.channels)} of {self.stamp_size}x{self.stamp_size} px"
            + (f" at {self.meta['pixel_scale']}″/px" if self.meta.get("pixel_scale") else ""),
            *([f"  beside    {', '.join(self.arrays)}"] if self.arrays else []),
            f"  groups    {self._identity['group'].nunique():,}",
            f"  NaN       {self.meta['n_nan_pixels']:,} pixels in {self.meta['n_nan_stamps']:,} "
            "stamps",
        ]
        numeric = self.columns(("mag", "snr"), required=False)
        for column in numeric:
            for label, what in ((REAL, "real"), (BOGUS, "bogus")):
                values = numeric[column].to_numpy(dtype=float)[self.labels == label]
                values = values[np.isfinite(values)]
                if len(values):
                    low, mid, high = np.percentile(values, [5, 50, 95])
                    lines.append(
                        f"  {column:<9} {what:<5} median {mid:.2f} (5–95 %: {low:.2f}–{high:.2f})"
                    )
        lines.append(f"  digest    {self.digest[:16]}")
        return "\n".join(lines)

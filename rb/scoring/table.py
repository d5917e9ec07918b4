"""A table of scores: one row a candidate, whatever it looks like.

Whatever speaks against a score is a tag of the row; only what cannot be scored has no `p_real`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.io.workers import in_threads
from rb.models.contract import Inputs, Scorer, check_judges
from rb.scoring.load import weights_digest_of
from rb.stamps.batch import Stamps
from rb.stamps.layout import CHANNELS
from rb.version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

    from rb.uncertainty.strangeness import Reference

CHUNK = 1024
"""Candidates that are read at once."""

BROKEN = "broken"
"""Tag of a candidate that could not be read."""

TAGS = {
    BROKEN: "could not be read; column `problem` says why",
    "lacks_IMAGE": "no finite pixel in an image that the model looks at: diff, srch or tmpl",
    "nan": "more than the allowed share of an image's pixels is not finite",
    "edge": "a whole row or column at the border of a stamp is not finite",
    "constant": "an image has one value everywhere",
    "unlike": "farther from all examples of the reference than 99 % of these are from each other",
    "lacks_psf": "no PSF of search image or template, which the model can do without, less well",
}
"""What the tags mean."""


@dataclass
class Chunk:
    """Some candidates on their way to the table.

    Parameters
    ----------
    ids : sequence
        Of each its identifier, None where it has none.
    stamps : Stamps
        Of n candidates; what could not be read is NaN.
    position : object
        Where the source goes on after them, in types of JSON.
    problems : mapping of int to str
        Rows that could not be read, or only in part, and why.
    broken : set of int
        Those of them that could not be read at all.
    columns : mapping of str to sequence
        Further columns.
    """

    ids: Any
    stamps: Stamps
    position: Any
    problems: Mapping[int, str] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.stamps)


@dataclass(frozen=True)
class ScoreTable:
    """Makes rows of candidates.

    Parameters
    ----------
    scorer : Scorer
        What scores them.
    digest : str
        Of the model; its first 16 digits are a column.
    max_nan : float
        Share of pixels of an image that may be missing before the candidate is tagged.
    embedding : bool
        Whether the last hidden layer is a column.
    reference : Reference, optional
        Examples that candidates are held against.

    Raises
    ------
    UserError
        If the reference is of another network.
    """

    scorer: Scorer
    digest: str
    max_nan: float = 0.2
    embedding: bool = False
    reference: Reference | None = None

    def __post_init__(self) -> None:
        check_judges(self.scorer)
        if self.reference is None:
            return
        known = self.reference.about.get("weights_digest")
        if known != weights_digest_of(self.scorer):
            raise UserError(
                f"the reference was made with {self.reference.about.get('model')}, which has "
                f"other weights than {self.scorer.provenance.name}; make one with rb reference"
            )

    def rows(self, chunk: Chunk) -> pa.Table:
        """One row for each candidate of `chunk`.

        Returns
        -------
        pyarrow.Table
            ``id``, ``p_real`` (float32), ``decision`` (real, bogus), ``tags`` (of `TAGS`, joined
            by ``;``), ``problem``, ``model``, and the chunk's own columns; with a reference
            ``strangeness`` and ``nearest``.
        """
        import pyarrow as pa

        n = len(chunk)
        seen = [c for c in CHANNELS if c in self._channels]
        lacking, tags = tagged(chunk.stamps.images, seen, self.max_nan)
        if "psf" in side_of(self.scorer.inputs):
            psf = chunk.stamps.psf
            known_psf = np.zeros(n, bool) if psf is None else np.isfinite(psf).all((1, 2, 3))
            for row in np.flatnonzero(~known_psf).tolist():
                tags.setdefault(row, []).append("lacks_psf")
        for row in chunk.broken:
            tags[row] = [BROKEN]
        known = ~lacking
        known[list(chunk.broken)] = False
        p_real, hidden = self._predict(chunk.stamps, known)
        known &= np.isfinite(p_real)
        strange: dict[str, Any] = {}
        if self.reference is not None and hidden is not None:
            far, near = self.reference.compare(hidden)
            for row in np.flatnonzero(known & (far > 1)).tolist():
                tags.setdefault(row, []).append("unlike")
            strange = {
                "strangeness": pa.array(far, pa.float32(), mask=~known),
                "nearest": pa.array(near, pa.string(), mask=~known),
            }
        real = p_real >= self.scorer.threshold
        columns: dict[str, Any] = {
            "id": chunk.ids if isinstance(chunk.ids, pa.Array) else pa.array(chunk.ids),
            "p_real": pa.array(p_real, pa.float32(), mask=~known),
            "decision": pa.array(np.where(real, "real", "bogus"), pa.string(), mask=~known),
            "tags": pa.array([";".join(tags.get(i, ())) for i in range(n)], pa.string()),
            "problem": pa.array([chunk.problems.get(i) for i in range(n)], pa.string()),
            "model": pa.array([self.digest[:16]] * n, pa.string()),
        }
        columns |= {name: pa.array(values, pa.string()) for name, values in chunk.columns.items()}
        columns |= strange
        if hidden is not None and self.embedding:
            flat = pa.array(hidden.reshape(-1), pa.float32())
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(
                flat, hidden.shape[1], mask=pa.array(~known)
            )
        return pa.table(columns)

    @property
    def about(self) -> dict[str, Any]:
        """What decides the rows of a candidate, in types of JSON."""
        provenance = self.scorer.provenance
        return {
            "model": provenance.name,
            "model_run": provenance.run,
            "model_digest": self.digest,
            "model_code_version": provenance.code_version,
            "threshold": self.scorer.threshold,
            "max_nan": self.max_nan,
            "embedding": self.embedding,
            "reference": self.reference and self.reference.about,
            "labels": provenance.labels,
            "code_version": __version__,
        }

    @property
    def _channels(self) -> set[str]:
        channels = self.scorer.inputs.channels or CHANNELS  # a forest's features need all
        return {channel.removesuffix("_var") for channel in channels}

    def _predict(self, stamps: Stamps, known: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        p_real = np.full(len(stamps), np.nan, np.float32)
        hidden = None
        some = stamps if known.all() else stamps[known]
        if self.embedding or self.reference is not None:
            found, layer = self.scorer.run(some, embedding=True)  # type: ignore[attr-defined]
            hidden = np.zeros((len(stamps), layer.shape[1]), np.float32)
            hidden[known] = layer
            p_real[known] = found
        elif len(some):
            p_real[known] = self.scorer.p_real(some)
        return p_real, hidden


def tagged(
    images: np.ndarray, channels: Sequence[str], max_nan: float
) -> tuple[np.ndarray, dict[int, list[str]]]:
    """What is to be said of stamps.

    Parameters
    ----------
    images : ndarray of shape (n, 3, S, S)
        Raw pixels.
    channels : sequence of str
        Images that are looked at.
    max_nan : float
        Share of an image's pixels.

    Returns
    -------
    nothing : bool array, (n,)
        Candidates without a finite pixel in any of the images.
    tags : dict of int to list of str
        By row, where there are any.
    """
    tags: dict[int, list[str]] = {}
    nothing = np.zeros(len(images), bool)
    places = [CHANNELS.index(c) for c in channels]
    doubtful = np.zeros(len(images), bool)

    def look(rows: slice) -> None:
        # One pass tells nearly always that all is well: a sum of finite numbers is finite.
        with np.errstate(all="ignore"):
            sums = [images[rows, place].sum((1, 2)) for place in places]
        doubtful[rows] = ~np.isfinite(sums).all(0)

    in_threads(look, len(images))
    corner = images[:, places, :1, :1]
    middle = images.shape[-1] // 2
    same = (images[:, places, middle, middle] == corner[..., 0, 0]).any(1)
    for row in np.flatnonzero(doubtful | same).tolist():
        seen = images[row, places]
        finite = np.isfinite(seen)
        share = finite.mean((1, 2))
        own = [f"lacks_{c}" for c, there in zip(channels, share, strict=True) if not there]
        if ((1 - share > max_nan) & (share > 0)).any():
            own.append("nan")
        borders = (finite[:, 0], finite[:, -1], finite[:, :, 0], finite[:, :, -1])
        if any((~border.any(1) & (share > 0)).any() for border in borders):
            own.append("edge")
        if any(f.any() and np.ptp(image[f]) == 0 for image, f in zip(seen, finite, strict=True)):
            own.append("constant")
        nothing[row] = not share.any()
        if own:
            tags[row] = own
    return nothing, tags


def count_tags(table: pa.Table) -> Counter[str]:
    """How often each tag occurs in a table."""
    found: Counter[str] = Counter()
    for entry in table["tags"].value_counts().to_pylist():
        for tag in filter(None, (entry["values"] or "").split(";")):
            found[tag] += entry["counts"]
    return found


def stamp_size(inputs: Inputs) -> int | None:
    """Pixels along a side of the stamps that a model takes; None if any size will do."""
    return getattr(inputs, "size", None)


def side_of(inputs: Inputs) -> tuple[str, ...]:
    """Side information that a model wants."""
    return tuple(getattr(inputs, "side", ()))

"""What everything that scores has in common: network, forest, file of another library.

Only this room knows which kind of model a scorer is. Whoever uses one asks the contract: what is
it fed, where does it call a candidate real, where does it come from, is there a network inside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from torch import nn

    from rb.stamps import StampSet
    from rb.stamps.batch import Stamps
    from rb.stamps.inputs import InputSpec
    from rb.stamps.splits import Split

LABELS = "0 real, 1 bogus; positive = real"
"""The label convention of every model here; `p_real` is the probability of class 0."""
IMAGE_KINDS = ("dia", "nodia")
"""Kinds of inputs that are images: with the difference image, and without."""
KINDS = (*IMAGE_KINDS, "features")
"""All kinds of inputs."""


class Inputs(Protocol):
    """What a scorer is fed: images (`InputSpec`) or features of them."""

    @property
    def channels(self) -> tuple[str, ...]:
        """The images that it looks at, and their variances; none for features."""

    @property
    def stacking(self) -> str:
        """How the images are put together: horizontal, depth, or none."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""

    def check(self, stamp_set: StampSet) -> None:
        """Raise UserError if a stamp set cannot feed it."""


def sees_stamps(inputs: Inputs) -> TypeGuard[InputSpec]:
    """Whether the inputs are images, as a network's are."""
    return inputs.kind in IMAGE_KINDS


def check_judges(scorer: Any) -> None:
    """Raise UserError if a model searches whole images instead of judging stamps."""
    if getattr(scorer.network, "searches", False):
        raise UserError(
            f"{scorer.provenance.name} searches whole images and does not judge stamps; use it "
            "with `rb scan` and `evaluate.py study=scan`"
        )


@dataclass(frozen=True)
class TrainingSet:
    """What a model learned from.

    Parameters
    ----------
    name, source : str
        Of the stamp set.
    digest, stamps_digest : str
        SHA-256 of the set with the labels that were used, and of what is on disk.
    split_digest : str
        Which candidates were for training, validation and test.
    n_train : int
        Number of training candidates.
    """

    name: str
    source: str
    digest: str
    stamps_digest: str
    split_digest: str
    n_train: int

    @classmethod
    def of(cls, stamp_set: StampSet, split: Split) -> TrainingSet:
        """Describe the training part of a stamp set."""
        return cls(
            stamp_set.name,
            str(stamp_set.meta["source"]),
            stamp_set.digest,
            stamp_set.stamps_digest,
            split.digest(stamp_set.ids),
            len(split.train),
        )


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from; kept in its file.

    Parameters
    ----------
    name : str
        Of the model's configuration, or of its file.
    run : str, optional
        ID of the run that trained it.
    training_set : TrainingSet, optional
        None where it is not known.
    labels : str
        The label convention.
    code_version : str, optional
        Version and commit of the code that trained it.
    licence : str, optional
        Under which the weights may be used; None for one's own.
    """

    name: str
    run: str | None = None
    training_set: TrainingSet | None = None
    labels: str = LABELS
    code_version: str | None = None
    licence: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Primitives only, for files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Any) -> Provenance:
        """Take it out of a file.

        Raises
        ------
        TypeError
            If `content` is not what `to_dict` gives.
        """
        own = dict(content)
        training = own.pop("training_set", None)
        for value in (*own.values(), *(training or {}).values()):
            if not isinstance(value, str | int | None):
                raise TypeError(f"{type(value).__name__} in a provenance")
        return cls(**own, training_set=None if training is None else TrainingSet(**training))


class Scorer(Protocol):
    """Whatever says `p_real` of candidates."""

    @property
    def inputs(self) -> Inputs:
        """What it is fed."""

    @property
    def threshold(self) -> float:
        """Candidates with `p_real` at or above it are called real."""

    @property
    def provenance(self) -> Provenance:
        """Name, training set, code and licence."""

    @property
    def n_parameters(self) -> int:
        """Number of trained weights, or of nodes of trees."""

    @property
    def network(self) -> nn.Module | None:
        """The network inside, in evaluation mode; None where there is none."""

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Probability of being real, (N,), of raw stamps (N, 3, S, S): diff, srch, tmpl.

        Raises
        ------
        UserError
            If the stamps have another shape, or do not determine what it is fed.
        """

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """`p_real` of candidates of a stamp set, read piece by piece.

        Parameters
        ----------
        stamp_set : StampSet
            The candidates.
        rows : int array, (n,), optional
            Which of them, in any order; all by default.
        progress : Console, optional
            Where progress is shown.

        Returns
        -------
        ndarray
            (n,), in the order of `rows`.
        """

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time of a prediction, alone and with all that raw stamps need before it.

        Parameters
        ----------
        stamp_set, rows
            The candidates that are timed, held in memory.
        how
            Batch sizes, repeats and the like, see `rb.metrics.timing.time_prediction`.

        Returns
        -------
        DataFrame
            That of `time_prediction`; a second measurement, from raw stamps on, beside it.
        """

    def note_on(self, stamp_set: StampSet) -> str | None:
        """What a reader has to know of its scores on this set, to follow its name; or None."""


def required_network(scorer: Scorer) -> nn.Module:
    """The network inside a scorer, for what only networks can do.

    Raises
    ------
    UserError
        If there is none.
    """
    if scorer.network is None:
        raise UserError(
            f"{scorer.provenance.name} works on {scorer.inputs.kind} and has no network inside; "
            "leave it out of runs"
        )
    return scorer.network


def checked_threshold(value: Any) -> float:
    """A threshold out of a file; TypeError if it is no probability."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise TypeError("no threshold")
    return float(value)

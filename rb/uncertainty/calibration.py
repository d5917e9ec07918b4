"""Scores that are probabilities: one temperature, fitted on validation candidates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError
from rb.metrics.classification import known
from rb.models.contract import Inputs, Provenance, Scorer

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from torch import nn

    from rb.stamps import StampSet
    from rb.stamps.batch import Stamps

_LEAST, _MOST = 0.02, 50.0


def fit_temperature(labels: np.ndarray, p_real: np.ndarray) -> float:
    """The temperature with the least log loss (Guo et al. 2017, ICML, Sect. 4.2).

    Parameters
    ----------
    labels : ndarray of shape (n,)
        0 real, 1 bogus, -1 unknown (left out).
    p_real : ndarray of shape (n,)
        Scores of candidates that the model was not trained on.

    Raises
    ------
    UserError
        If there are no real or no bogus ones.
    """
    from scipy.optimize import minimize_scalar

    real, scores = known(np.asarray(labels), np.asarray(p_real))
    if real.all() or not real.any():
        raise UserError("a calibration needs real and bogus candidates; give labelled ones of both")
    signed = np.where(real, 1, -1) * _logit(scores)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -signed / np.exp(log_temperature)).mean())

    found = minimize_scalar(loss, bounds=(np.log(_LEAST), np.log(_MOST)), method="bounded")
    return float(np.exp(found.x))


def at_temperature(p_real: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities whose logits are divided by `temperature`; .5 stays .5."""
    return 1 / (1 + np.exp(-_logit(p_real) / temperature))


def _logit(p_real: np.ndarray) -> np.ndarray:
    p = np.clip(np.asarray(p_real, dtype=np.float64), 1e-9, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)


@dataclass(frozen=True)
class CalibratedScorer:
    """A scorer whose scores are probabilities: of those with .8, eight in ten are real.

    Parameters
    ----------
    scorer : Scorer
        Whose scores are calibrated.
    temperature : float, optional
        Without one, scores are refused until `fit` has found it.
    """

    scorer: Scorer
    temperature: float | None = None

    def fit(self, stamp_set: StampSet, rows: np.ndarray) -> CalibratedScorer:
        """The same with the temperature that suits these labelled candidates.

        Parameters
        ----------
        stamp_set : StampSet
            With labels.
        rows : int ndarray of shape (n,)
            Candidates for validation: none that the model was trained or will be tested on.
        """
        labels = stamp_set.labels[rows]
        return replace(
            self, temperature=fit_temperature(labels, self.scorer.score(stamp_set, rows))
        )

    def p_real(self, stamps: np.ndarray | Stamps) -> np.ndarray:
        """Calibrated probability of being real, (n,)."""
        return at_temperature(self.scorer.p_real(stamps), self._fitted)

    def score(
        self,
        stamp_set: StampSet,
        rows: np.ndarray | None = None,
        progress: Console | None = None,
    ) -> np.ndarray:
        """Calibrated probabilities of candidates of a stamp set."""
        return at_temperature(self.scorer.score(stamp_set, rows, progress), self._fitted)

    @property
    def _fitted(self) -> float:
        if self.temperature is None:
            raise UserError(
                f"{self.scorer.provenance.name} was never calibrated; fit a CalibratedScorer to "
                "validation candidates first"
            )
        return self.temperature

    @property
    def threshold(self) -> float:
        """The scorer's own threshold, as a calibrated probability."""
        return float(at_temperature(np.array([self.scorer.threshold]), self._fitted)[0])

    @property
    def inputs(self) -> Inputs:
        """What it is fed."""
        return self.scorer.inputs

    @property
    def provenance(self) -> Provenance:
        """That of the scorer."""
        return self.scorer.provenance

    @property
    def n_parameters(self) -> int:
        """Number of trained weights, and the temperature."""
        return self.scorer.n_parameters + 1

    @property
    def network(self) -> nn.Module | None:
        """The network inside, whose outputs are not calibrated."""
        return self.scorer.network

    def timing(self, stamp_set: StampSet, rows: np.ndarray, **how: Any) -> pd.DataFrame:
        """Time of the scorer; the calibration takes none."""
        return self.scorer.timing(stamp_set, rows, **how)

    def note_on(self, stamp_set: StampSet) -> str | None:
        """What the scorer says of a set."""
        return self.scorer.note_on(stamp_set)

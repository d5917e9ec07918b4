"""Which labels are likely wrong: confident learning for two classes.

After Northcutt, Jiang & Chuang 2021 (J. Artif. Intell. Res. 70, 1373; arXiv 1911.00068). A
candidate is confidently of a class if its out-of-fold probability of it reaches the mean
probability that candidates with that label have; those whose confident class is not their
label make up the off-diagonal of the confident joint. The numbers agree with those of the
package cleanlab, see the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rb.errors import UserError
from rb.stamps.layout import BOGUS, REAL

_SLACK = 1e-6  # a probability equal to the threshold but for rounding reaches it


@dataclass(frozen=True)
class ConfidentJoint:
    """Given labels against confident classes.

    Attributes
    ----------
    thresholds : float array, (2,)
        Mean probability of real among those labelled real, of bogus among those labelled
        bogus.
    counts : int array, (2, 2)
        Candidates labelled i (row) that are confidently j (column); 0 real, 1 bogus. Those
        that are confidently neither are not counted.
    suspects : bool array, (n,)
        The off-diagonal: those whose confident class contradicts their label, unless the
        network all the same gives the label the larger probability.
    """

    thresholds: np.ndarray
    counts: np.ndarray
    suspects: np.ndarray

    def noise(self, labels: np.ndarray) -> np.ndarray:
        """Estimated share of wrong labels among those labelled real and bogus, (2,).

        The joint with each row scaled to the number of candidates with that label (eq. 1 and
        section 3.1 of the paper above). What a network gets wrong by itself counts as label
        noise here, so with a network that errs more often than the labels do, this is an
        upper limit.
        """
        rows = self.counts.sum(1).clip(min=1)
        return np.array([self.counts[i, 1 - i] / rows[i] for i in (REAL, BOGUS)])


def margin(labels: np.ndarray, p_real: np.ndarray) -> np.ndarray:
    """Normalised margin, (p(label) − p(other) + 1)/2: 0 where the network contradicts, 1 where not.

    With two classes this is p(label) itself, the self-confidence.

    Parameters
    ----------
    labels
        (n,) 0 real, 1 bogus.
    p_real
        (n,) out-of-fold probabilities.
    """
    labels, p_real = np.asarray(labels), np.asarray(p_real, dtype=np.float64)
    return np.where(labels == REAL, p_real, 1 - p_real)


def confident_joint(labels: np.ndarray, p_real: np.ndarray) -> ConfidentJoint:
    """The confident joint of labels and out-of-fold probabilities.

    Parameters
    ----------
    labels
        (n,) 0 real, 1 bogus.
    p_real
        (n,) probabilities by a network that was not trained on the candidate.

    Raises
    ------
    UserError
        If a class has no candidate.
    """
    labels, p_real = np.asarray(labels), np.asarray(p_real, dtype=np.float64)
    for label, name in ((REAL, "real"), (BOGUS, "bogus")):
        if not np.any(labels == label):
            raise UserError(
                f"no scored candidate is labelled {name}; wrong labels can only be told with both"
            )
    both = np.stack([p_real, 1 - p_real], axis=1)  # columns in the order of the labels
    thresholds = np.array([both[labels == k, k].mean() for k in (REAL, BOGUS)])
    reached = both >= thresholds - _SLACK
    # One that reaches both thresholds is of the class that the network finds likelier.
    confident = np.where(reached.all(1), both.argmax(1), reached.argmax(1))
    counted = reached.any(1)
    counts = np.zeros((2, 2), dtype=np.int64)
    np.add.at(counts, (labels[counted], confident[counted]), 1)
    suspects = counted & (confident != labels) & (margin(labels, p_real) < 0.5)
    return ConfidentJoint(thresholds, counts, suspects)

"""Real/bogus classification of transients, with and without the difference image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rb.version import __version__

if TYPE_CHECKING:
    from rb.models.contract import Scorer

__all__ = ["__version__", "load"]


def load(what: str | os.PathLike[str], runs: str | os.PathLike[str] | None = None) -> Scorer:
    """Load a trained model, to say `p_real` of stamps. Nothing in its file is executed.

    Parameters
    ----------
    what : str or path
        A file (.ckpt or .skops of `train.py`, or Keras .h5), or the ID, the start of an ID, or
        the name of a run.
    runs : path, optional
        Folder that the runs are in; `mlruns/` of the project by default. With
        `MLFLOW_TRACKING_URI` in the environment they are on that server.

    Returns
    -------
    Scorer
        With `p_real(stamps)` for raw stamps (N, 3, S, S) of diff, srch, tmpl, and
        `score(stamp_set)`.

    Raises
    ------
    UserError
        If there is no such model, or `what` names several.
    """
    # Here, so that `import rb` and the command lines' help stay quick.
    from rb.evaluation.choose import load

    return load(what, runs)

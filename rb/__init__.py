"""Real/bogus classification of transients, with and without the difference image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rb.errors import UserError
from rb.version import __version__

if TYPE_CHECKING:
    from rb.models.contract import Scorer

__all__ = ["__version__", "load"]


def load(
    what: str | os.PathLike[str],
    runs: str | os.PathLike[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> Scorer:
    """Load a trained model, to say `p_real` of stamps. Nothing in its file is executed.

    Parameters
    ----------
    what : str or path
        A file (.ckpt or .skops of `train.py`, .onnx of `rb export`, or Keras .h5), or the ID, the
        start of an ID, or the name of a run; or `nodia`, `dia`, `nodia_stamps`, networks of the
        package, where no run has that name (`published:nodia` always is one of the package).
    runs : path, optional
        Folder that the runs are in; `mlruns/` of the project by default. With
        `MLFLOW_TRACKING_URI` in the environment they are on that server.
    inputs : mapping, optional
        How a Keras network is fed, where the shape of its input does not say it: `channels` in
        the order of its input, `stacking`, `scaling` (of all, or by channel); and `label_1`, what
        its output of 1 means: `real` or `bogus`. The same keys in `NAME.yaml` beside `NAME.h5` do
        as well.

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
    from rb.models.files import model_file

    file = model_file(what)
    if file is not None:
        from rb.scoring.load import load_scorer

        return load_scorer(file, inputs=inputs)
    if inputs is not None:
        raise UserError(f"{what} is no Keras file, and runs say themselves how they are fed")
    from rb.evaluation.choose import load_run

    return load_run(os.fspath(what), runs)

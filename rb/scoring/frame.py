"""A table of alert packets in, a table of scores out: what engines for many machines map."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from rb.errors import UserError
from rb.models.files import model_file
from rb.models.pretrained import published_file
from rb.scoring.alerts import Gathered, alert_settings
from rb.scoring.load import load_scorer, model_digest
from rb.scoring.table import ScoreTable, side_of
from rb.sources.alerts.packets import to_packet

if TYPE_CHECKING:
    import pandas as pd


def score_frame(frame: pd.DataFrame, model: str = "nodia", max_nan: float = 0.2) -> pd.DataFrame:
    """Score the packets in the rows of a table.

    It keeps nothing between calls but the model, once a process, so that Spark (`mapInPandas`),
    Ray Data or Dask can call it on any machine and again after one has failed.

    Parameters
    ----------
    frame : DataFrame
        A row a packet, as Parquet of alerts has them: cutout columns (bytes of FITS files, or lists
        of pixels), identifiers, nested measurements.
    model : str
        File of a model that every machine has, or one of the package.
    max_nan : float
        Share of an image's pixels that may be missing before the row is tagged.

    Returns
    -------
    DataFrame
        One row a packet, in their order, with the columns of `rb score` and the index of `frame`.
    """
    import pandas as pd

    table = _table(model, max_nan)
    inputs = table.scorer.inputs
    gathered = Gathered(alert_settings(Path(), inputs), side_of(inputs))
    for place, record in zip(frame.index, frame.to_dict("records"), strict=True):
        gathered.add(to_packet(record), str(place))
    if not len(gathered):
        return pd.DataFrame()
    return table.rows(gathered.chunk(None)).to_pandas().set_index(frame.index)


@lru_cache(maxsize=4)
def _table(model: str, max_nan: float) -> ScoreTable:
    file = model_file(model) or published_file(model)
    if file is None:
        raise UserError(f"{model}: no file of a model, nor the name of one of the package")
    scorer = load_scorer(file)
    return ScoreTable(scorer, model_digest(scorer, file), max_nan)

"""What a scan found, as a table and as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.io.files import write_whole, written
from rb.scan.finds import LEAST_LOGIT
from rb.scan.images import ScanPair
from rb.scan.judge import both, logit
from rb.scan.judge import judge as judge_finds
from rb.scan.photometry import measure
from rb.scan.search import find_peaks, heat_map

if TYPE_CHECKING:
    import pandas as pd

TAGS = {"masked": "saturated pixels, or the surroundings of unknown ones, lie within 5 px"}
"""What the tags of a find mean."""

UNITS = {"x": "pix", "y": "pix", "ra": "deg", "dec": "deg", "host_sep_arcsec": "arcsec"}
_NEAR = 5  # px
_HOST_ARCSEC = 5.0


def find(
    network: Any,
    scan: ScanPair,
    threshold: float,
    tile: int = 1024,
    told: Callable[[float], None] | None = None,
    judge: Any = None,
) -> pd.DataFrame:
    """Look for what is new in a pair.

    Parameters
    ----------
    network : DenseNetwork
        In evaluation mode.
    scan : ScanPair
        The images.
    threshold : float
        Least `p_real`.
    tile : int
        px along a side of what is looked at at once.
    told : callable, optional
        Called with the share that is done.
    judge : Scorer, optional
        A model of search and template that looks at each find again, see `rb.scan.judge.both`.

    Returns
    -------
    DataFrame
        A row a find, the surest first: `x`, `y` (px, pixel centres from 0), `ra`, `dec` (deg),
        `p_real`, `flux`, `flux_err` (of the search image's unit), `snr`, `mag`, `mag_err`,
        `host_sep_arcsec` (to the nearest source of the template within 5 arcsec), `tags`. What
        cannot be said, without WCS or zero point, is NaN.
    """
    import pandas as pd

    pair = scan.pair
    logits = heat_map(network, pair, tile, told)
    least = float(np.log(threshold / (1.0 - threshold)))
    # What the search thinks little of may please the judge.
    asked = least if judge is None else min(least, LEAST_LOGIT)
    column, row = find_peaks(logits, pair.masked, asked)
    found = measure(pair, column, row, scan.gain)
    odds = logits[row, column].astype(float)
    if judge is not None:
        odds = both(odds, logit(judge_finds(judge, pair, found.x, found.y)))
    ra, dec = _sky(scan.wcs, found.x, found.y)
    snr = found.flux / found.flux_err
    with np.errstate(divide="ignore", invalid="ignore"):
        mag = np.where(found.flux > 0, -2.5 * np.log10(found.flux), np.nan)
        mag = mag + (np.nan if scan.zero_point is None else scan.zero_point)
    table = {
        "x": found.x,
        "y": found.y,
        "ra": ra,
        "dec": dec,
        "p_real": 1.0 / (1.0 + np.exp(-odds)),
        "flux": found.flux,
        "flux_err": found.flux_err,
        "snr": snr,
        "mag": mag,
        "mag_err": np.where(np.isfinite(mag), 1.0857 / np.abs(snr), np.nan),
        "host_sep_arcsec": _host_separation(scan, found.x, found.y),
        "tags": _tags(scan, column, row),
    }
    kept = pd.DataFrame(table)[odds >= least]
    return kept.sort_values("p_real", ascending=False, kind="stable", ignore_index=True)


def _sky(wcs: Any, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if wcs is None or not len(x):
        return np.full(len(x), np.nan), np.full(len(x), np.nan)
    sky = wcs.pixel_to_world(x, y).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def _host_separation(scan: ScanPair, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from scipy.spatial import KDTree

    sources = scan.pair.sources
    if not len(sources.x) or not len(x) or scan.scale is None:
        return np.full(len(x), np.nan)
    distance, _ = KDTree(np.stack([sources.x, sources.y], 1)).query(np.stack([x, y], 1))
    separation = distance * scan.scale
    return np.where(separation <= _HOST_ARCSEC, separation, np.nan)


def _tags(scan: ScanPair, column: np.ndarray, row: np.ndarray) -> list[str]:
    from scipy.ndimage import maximum_filter

    near = maximum_filter(scan.pair.masked, 2 * _NEAR + 1)[row, column]
    return ["masked" if one else "" for one in near]


def write_catalogue(table: pd.DataFrame, path: Path, about: dict[str, str], unit: str) -> None:
    """Write a catalogue in the format of its ending; it appears when it is whole.

    Parameters
    ----------
    table : DataFrame
        See `find`.
    path : Path
        Ending with one of `rb.scan.jobs.SUFFIXES`.
    about : dict of str
        How it came about, kept in formats that have a place for it.
    unit : str
        Of the fluxes.
    """
    with written(path, "the catalogue") as temporary:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            content = pa.Table.from_pandas(table, preserve_index=False)
            content = content.replace_schema_metadata((content.schema.metadata or {}) | about)
            pq.write_table(content, temporary)
        elif path.suffix == ".csv":
            table.to_csv(temporary, index=False)
        else:
            from astropy.table import Table

            content = Table.from_pandas(table)
            flux = _known_unit(unit)
            for name in content.colnames:
                content[name].unit = flux if name.startswith("flux") else UNITS.get(name)
            content.meta.update({key[:8].upper(): value for key, value in about.items()})
            form = "votable" if path.suffix == ".vot" else "fits"
            content.write(temporary, format=form, overwrite=True)


def _known_unit(text: str) -> Any:
    """The unit that a header names, if astropy knows it; many write ADU for the standard's adu."""
    from astropy.units import Unit

    try:
        return Unit("adu" if text.upper() == "ADU" else text, format="fits") if text else None
    except ValueError:
        return None


def write_regions(table: pd.DataFrame, path: Path) -> None:
    """Circles round the finds for DS9 and Aladin: on the sky where that is known, else in px."""
    sky = bool(len(table)) and bool(np.isfinite(table["ra"]).all())
    lines = ["# Region file format: DS9 version 4.1", "icrs" if sky else "image"]
    for row in table.itertuples():
        # FITS counts pixels from 1.
        where = f'{row.ra:.7f},{row.dec:.7f},2"' if sky else f"{row.x + 1:.2f},{row.y + 1:.2f},8"
        lines.append(f"circle({where}) # text={{{row.p_real:.2f}}}")
    write_whole(path, ("\n".join(lines) + "\n").encode(), "the list of regions")

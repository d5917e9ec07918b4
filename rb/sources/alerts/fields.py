"""What an alert packet says about its candidate, as a row of the catalogue.

Surveys name the same thing differently and mark missing values with -999 or -99; the catalogue
has one name for each, in snake_case, and null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rb.sources.alerts.packets import Packet, key

if TYPE_CHECKING:
    import pandas as pd

BANDS = {
    "ztf": {1: "g", 2: "r", 3: "i"},
    "winter": {1: "Y", 2: "J", 3: "Hs"},
    "wirc": {1: "J", 2: "H", 3: "Ks"},
}
"""Filter of a numbered ``fid``, by survey."""

_FLOAT, _INT, _TEXT, _FLAG = "float64", "Int64", "string", "boolean"

# Column of the catalogue, its type, and the packets' keys for it without case and
# punctuation (see `rb.sources.alerts.packets.key`), in order of preference.
_COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "jd": (_FLOAT, ("jd",)),
    "ra": (_FLOAT, ("ra",)),
    "dec": (_FLOAT, ("dec", "decl")),
    "fid": (_INT, ("fid",)),
    "band": (_TEXT, ("band", "filtername", "filter")),
    "field": (_INT, ("field", "fieldid")),
    "visit": (_INT, ("visit",)),
    "rcid": (_INT, ("rcid",)),
    "detector": (_INT, ("detector", "boardid", "quadpos")),
    "program": (_TEXT, ("programpi", "progname", "program")),
    "programid": (_INT, ("programid",)),
    "xpos": (_FLOAT, ("xpos", "x")),
    "ypos": (_FLOAT, ("ypos", "y")),
    "rb": (_FLOAT, ("rb",)),
    "drb": (_FLOAT, ("drb",)),
    "reliability": (_FLOAT, ("reliability",)),
    "rb_version": (_TEXT, ("rbversion",)),
    "drb_version": (_TEXT, ("drbversion",)),
    "magpsf": (_FLOAT, ("magpsf",)),
    "sigmapsf": (_FLOAT, ("sigmapsf",)),
    "psf_flux": (_FLOAT, ("psfflux",)),
    "psf_flux_err": (_FLOAT, ("psffluxerr",)),
    "mag_limit": (_FLOAT, ("diffmaglim",)),
    "snr": (_FLOAT, ("snr",)),
    "scorr": (_FLOAT, ("scorr",)),
    "isdiffpos": (_FLAG, ("isdiffpos",)),
    "fwhm": (_FLOAT, ("fwhm",)),
    "elongation": (_FLOAT, ("elong",)),
    "class_star": (_FLOAT, ("classtar",)),
    "exptime": (_FLOAT, ("exptime",)),
    "mag_ref": (_FLOAT, ("magnr",)),
    "mag_ref_err": (_FLOAT, ("sigmagnr",)),
    "dist_ref": (_FLOAT, ("distnr",)),
    "ss_distance": (_FLOAT, ("ssdistnr",)),
    "star_galaxy": (_FLOAT, ("sgscore1",)),
    "n_detections": (_INT, ("ndethist",)),
    "n_negative": (_INT, ("nneg",)),
    "n_bad": (_INT, ("nbad",)),
    "publisher": (_TEXT, ("publisher",)),
}

SCORES = ("rb", "drb", "reliability")
"""Columns that hold a survey's own real/bogus score, 1 = real."""

_FLAGS = {"t": True, "1": True, "true": True, "f": False, "0": False, "false": False}
_MISSING = (-999.0, -99.0, -9999.0)
# 1.0857 = 2.5 / ln 10: a relative flux error in magnitudes.
_MAG_PER_RELATIVE = 2.5 / math.log(10)
_NANOJANSKY_ZERO_POINT = 31.4
_MJD_ZERO = 2400000.5


def identifiers(packet: Packet) -> tuple[int | str | None, str | None]:
    """Identifiers of the candidate and of the sky object it belongs to.

    Returns
    -------
    candid : int or str or None
        ``candid``, ``diaSourceId``, ``alertId`` or ``id``; None if the packet has none.
    object_id : str or None
        ``objectId``, ``diaObjectId``, ``ssObjectId`` or ``oid``.
    """
    candid = _first(packet.fields, ("candid", "diasourceid", "alertid", "id"))
    if isinstance(candid, bool | float) or candid == "":
        candid = None
    if isinstance(candid, int) and not -(2**63) <= candid < 2**63:
        candid = str(candid)
    # Rubin writes 0 for a source that belongs to no object.
    found = (packet.fields.get(k) for k in ("objectid", "diaobjectid", "ssobjectid", "oid"))
    obj = next((v for v in found if v not in (None, 0, "")), None)
    return candid, None if obj is None else str(obj)


def describe(packet: Packet, extra: Iterable[str] = ()) -> dict[str, Any]:
    """Catalogue values of a packet: measurements, scores and identifiers.

    Parameters
    ----------
    packet : Packet
        The alert.
    extra : iterable of str
        Further numbers of the packet to keep, by their own names; the columns are in
        snake_case. What is no number is null.
        Columns that are there anyway stay as they are.

    Returns
    -------
    dict
        ``candid``, ``object_id``, the columns of `dtypes`, and derived from them

        - ``mag``, ``mag_err`` [mag]: ``magpsf`` and ``sigmapsf``, else AB magnitudes of
          ``psfFlux`` [nJy];
        - ``snr``: the survey's, else 1.0857 / ``mag_err``;
        - ``jd`` [d]: the survey's (UTC), else from ``midpointMjdTai`` (in TAI, 37 s ahead);
        - ``band``: the survey's, else from ``fid``; J for Palomar Gattini-IR;
        - ``isdiffpos``: true for search − template, whatever ``t``, ``1`` or true said.
    """
    fields = packet.fields
    row: dict[str, Any] = {}
    for column, (kind, keys) in _COLUMNS.items():
        row[column] = _convert(_first(fields, keys), kind)
    row["candid"], row["object_id"] = identifiers(packet)
    row["survey"] = packet.survey
    if row["band"] is None:
        fid = row["fid"]
        row["band"] = "J" if packet.survey == "pgir" else BANDS.get(packet.survey, {}).get(fid)
    if row["jd"] is None:
        mjd = _convert(_first(fields, ("midpointmjdtai", "midpointtai", "mjd")), _FLOAT)
        row["jd"] = None if mjd is None else mjd + _MJD_ZERO
    if row["isdiffpos"] is None:
        negative = _convert(fields.get("isnegative"), _FLAG)
        row["isdiffpos"] = None if negative is None else not negative
    row["mag"], row["mag_err"] = _magnitude(row)
    if row["snr"] is None and row["mag_err"]:
        row["snr"] = _MAG_PER_RELATIVE / row["mag_err"]
    for name in extra:
        row.setdefault(snake(name), _convert(fields.get(key(name)), _FLOAT))
    return row


def dtypes() -> dict[str, str]:
    """Type of each column that `describe` always gives."""
    return {column: kind for column, (kind, _) in _COLUMNS.items()} | {
        "object_id": _TEXT,
        "survey": _TEXT,
        "mag": _FLOAT,
        "mag_err": _FLOAT,
    }


def to_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Catalogue rows as a table whose types do not depend on which values are missing."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    known = dtypes()
    empty = {c: _FLOAT for c in frame if c not in known and frame[c].isna().all()}
    return frame.astype({c: t for c, t in known.items() if c in frame} | empty)


def snake(name: str) -> str:
    """`camelCase` as ``camel_case``."""
    out = [("_" + c.lower()) if c.isupper() and i else c.lower() for i, c in enumerate(name)]
    return "".join(out).replace("__", "_").replace(".", "_")


def _magnitude(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if row["magpsf"] is not None:
        return row["magpsf"], row["sigmapsf"]
    flux, error = row["psf_flux"], row["psf_flux_err"]
    if not flux:
        return None, None
    mag = _NANOJANSKY_ZERO_POINT - 2.5 * math.log10(abs(flux))
    return mag, None if error is None else _MAG_PER_RELATIVE * abs(error / flux)


def _first(fields: Mapping[str, Any], keys: Iterable[str]) -> Any:
    return next((fields[k] for k in keys if fields.get(k) is not None), None)


def _convert(value: Any, kind: str) -> Any:
    """`value` as `kind`, or None where it is missing or cannot be that."""
    if value is None or value in _MISSING:
        return None
    if kind == _TEXT:
        return str(value)
    if kind == _FLAG:
        return _FLAGS.get(str(value).strip().lower())
    try:
        number = float(value)
        if not math.isfinite(number):
            return None
        if kind == _FLOAT:
            return number
        # Through int, not float: identifiers have more digits than a float keeps.
        whole = int(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return whole if -(2**63) <= whole < 2**63 else None

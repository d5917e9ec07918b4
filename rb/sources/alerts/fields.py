"""What an alert packet says about its candidate, as a row of the catalogue.

Surveys name the same thing differently and mark missing values with -999 or -99; the catalogue
has one name for each, in snake_case, and null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rb.sources.alerts.cutouts import NANOJANSKY
from rb.sources.alerts.names import key
from rb.sources.alerts.packets import Packet

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

# What only Rubin's diaSource has.
_RUBIN: dict[str, tuple[str, tuple[str, ...]]] = {
    "science_flux": (_FLOAT, ("scienceflux",)),
    "science_flux_err": (_FLOAT, ("sciencefluxerr",)),
    "template_flux": (_FLOAT, ("templateflux",)),
    "template_flux_err": (_FLOAT, ("templatefluxerr",)),
    "ap_flux": (_FLOAT, ("apflux",)),
    "ap_flux_err": (_FLOAT, ("apfluxerr",)),
    "extendedness": (_FLOAT, ("extendedness",)),
    "bbox_size": (_INT, ("bboxsize",)),
    "ixx": (_FLOAT, ("ixx",)),
    "iyy": (_FLOAT, ("iyy",)),
    "ixy": (_FLOAT, ("ixy",)),
    "ixx_psf": (_FLOAT, ("ixxpsf",)),
    "iyy_psf": (_FLOAT, ("iyypsf",)),
    "ixy_psf": (_FLOAT, ("ixypsf",)),
    "is_dipole": (_FLAG, ("isdipole",)),
    "glint_trail": (_FLAG, ("glinttrail",)),
    "dipole_length": (_FLOAT, ("dipolelength",)),
    "trail_length": (_FLOAT, ("traillength",)),
}
_RUBIN |= {
    f"pixel_flags{name}": (_FLAG, (f"pixelflags{name.replace('_', '')}",))
    for name in (
        "", "_bad", "_cr", "_cr_center", "_edge", "_injected", "_injected_center",
        "_injected_template", "_injected_template_center", "_interpolated",
        "_interpolated_center", "_nodata", "_nodata_center", "_offimage", "_saturated",
        "_saturated_center", "_streak", "_streak_center", "_suspect", "_suspect_center",
    )
}  # fmt: skip

# Kind of bogus by the flags that tell it, the most telling first: a source with a saturated centre
# that is a dipole, too, is one because of the saturation.
_KINDS = {
    "no_data": ("pixel_flags_nodata_center", "pixel_flags_offimage", "pixel_flags_edge"),
    "bad_pixel": ("pixel_flags_bad",),
    "cosmic_ray": ("pixel_flags_cr_center",),
    "glint": ("glint_trail",),
    "streak": ("pixel_flags_streak_center",),
    "saturated": ("pixel_flags_saturated_center", "pixel_flags_suspect_center"),
    "dipole": ("is_dipole",),
}
INJECTED = ("pixel_flags_injected_center",)
"""Flags of sources that the survey has put into its images itself: not bogus, whatever else."""

CANDIDATE_IDS = ("candid", "diasourceid", "alertid")
OBJECT_IDS = ("objectid", "diaobjectid", "ssobjectid", "oid")
_TIMES = ("midpointmjdtai", "midpointtai", "mjd")

EXACT = 2**53
"""Whole numbers up to this are exact in a floating-point number; beyond it digits are lost."""

SCORES = ("rb", "drb", "reliability")
"""Columns that hold a survey's own real/bogus score, 1 = real."""

_FLAGS = {"t": True, "1": True, "true": True, "f": False, "0": False, "false": False}
_MISSING = (-999.0, -99.0, -9999.0)
# 1.0857 = 2.5 / ln 10: a relative flux error in magnitudes.
_MAG_PER_RELATIVE = 2.5 / math.log(10)
_MJD_ZERO = 2400000.5


def wanted(extra: Iterable[str] = ()) -> frozenset[str]:
    """Keys of all fields that the catalogue is made of."""
    columns = (*_COLUMNS.values(), *_RUBIN.values())
    found = {k for _, keys in columns for k in keys} | {key(name) for name in extra}
    return frozenset(found | {*CANDIDATE_IDS, *OBJECT_IDS, *_TIMES, "isnegative"})


def identifiers(packet: Packet) -> list[int | str]:
    """Identifiers of the candidate: ``candid``, ``diaSourceId``, ``alertId``.

    The packet's own come first: those of its measurement are the same in all packets of some
    surveys. None of them is a floating-point number that has lost digits.
    """
    found: list[int | str] = []
    for name in CANDIDATE_IDS:
        for values in (packet.own, packet.fields):
            value, _ = _identifier(values.get(name))
            if value is not None and value not in found:
                found.append(value)
    return found


def rounded_identifiers(packet: Packet) -> list[float]:
    """Floating-point numbers that were identifiers of the candidate and have lost digits."""
    values = (packet.fields.get(name) for name in CANDIDATE_IDS)
    return [v for v in values if isinstance(v, float) and _identifier(v)[1]]


def sky_object(packet: Packet) -> tuple[str | None, bool]:
    """Identifier of the sky object, and whether it has lost digits as a floating-point number.

    ``objectId``, ``diaObjectId``, ``ssObjectId`` or ``oid``; Rubin writes 0 for a source that
    belongs to no object.
    """
    lost: str | None = None
    for name in OBJECT_IDS:
        value, rounded = _identifier(packet.fields.get(name))
        if rounded:
            lost = lost or str(int(packet.fields[name]))
        elif value not in (None, 0):
            return str(value), False
    return lost, lost is not None


def as_if_rounded(object_id: str) -> str:
    """An identifier as it would be had it come as a floating-point number."""
    try:
        number = int(object_id)
    except ValueError:
        return object_id
    return str(int(float(number))) if abs(number) > EXACT else object_id


def _identifier(value: Any) -> tuple[int | str | None, bool]:
    """`value` as an identifier, None if it is none; and whether digits of it are lost."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        if abs(value) > EXACT:
            return None, True
        value = int(value)  # a column with gaps has become one of floating-point numbers
    if value == "" or isinstance(value, bool | float):
        return None, False
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = str(value)
    return value, False


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
        - ``isdiffpos``: true for search − template, whatever ``t``, ``1`` or true said;
        - ``bogus_kind`` (Rubin): what its flags say is wrong, None if nothing.
    """
    fields = packet.fields
    row: dict[str, Any] = {}
    for column, (kind, keys) in _COLUMNS.items():
        row[column] = _convert(_first(fields, keys), kind)
    row["candid"] = next(iter(identifiers(packet)), None)
    row["object_id"] = sky_object(packet)[0]
    row["survey"] = packet.survey
    if row["band"] is None:
        fid = row["fid"]
        row["band"] = "J" if packet.survey == "pgir" else BANDS.get(packet.survey, {}).get(fid)
    if row["jd"] is None:
        mjd = _convert(_first(fields, _TIMES), _FLOAT)
        row["jd"] = None if mjd is None else mjd + _MJD_ZERO
    if row["isdiffpos"] is None:
        negative = _convert(fields.get("isnegative"), _FLAG)
        row["isdiffpos"] = None if negative is None else not negative
    row["mag"], row["mag_err"] = _magnitude(row)
    if row["snr"] is None and row["mag_err"]:
        row["snr"] = _MAG_PER_RELATIVE / row["mag_err"]
    if "diasourceid" in fields:
        row |= {c: _convert(_first(fields, keys), kind) for c, (kind, keys) in _RUBIN.items()}
        row["bogus_kind"] = None if any(row[c] for c in INJECTED) else _kind(row)
    for name in extra:
        row.setdefault(snake(name), _convert(fields.get(key(name)), _FLOAT))
    return row


def dtypes() -> dict[str, str]:
    """Type of each column that `describe` gives."""
    return {column: kind for column, (kind, _) in (_COLUMNS | _RUBIN).items()} | {
        "bogus_kind": _TEXT,
        "mirrored": _FLAG,
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


def _kind(row: Mapping[str, Any]) -> str | None:
    """Kind of bogus that the flags tell; None if none is set."""
    return next((kind for kind, flags in _KINDS.items() if any(row[f] for f in flags)), None)


def _magnitude(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if row["magpsf"] is not None:
        return row["magpsf"], row["sigmapsf"]
    flux, error = row["psf_flux"], row["psf_flux_err"]
    if not flux:
        return None, None
    mag = NANOJANSKY - 2.5 * math.log10(abs(flux))
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

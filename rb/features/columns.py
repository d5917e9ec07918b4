"""Names of the autoscan features, as the DES table spells them.

Goldstein et al. 2015 (arXiv 1504.02936) define 38 features; the published table has one column
each, and BAND and CCDID among them.
"""

from __future__ import annotations

BAND_CODES = {"u": 0, "g": 1, "r": 2, "i": 3, "z": 4, "y": 5}
"""Numbers that stand for the filters where a table spells them as letters."""

STAMP_SIDE = 51
"""Pixels along a side of the stamps that they are defined on."""

ALL_38 = (
    "AMP",
    "A_IMAGE",
    "A_REF",
    "BAND",
    "B_IMAGE",
    "B_REF",
    "CCDID",
    "COLMEDS",
    "DIFFSUMRN",
    "ELLIPTICITY",
    "FLAGS",
    "FLUX_RATIO",
    "GAUSS",
    "GFLUX",
    "L1",
    "LACOSMIC",
    "MAG",
    "MAGDIFF",
    "MAGLIM",
    "MAG_FROM_LIMIT",
    "MAG_REF",
    "MAG_REF_ERR",
    "MASKFRAC",
    "MIN_DISTANCE_TO_EDGE_IN_NEW",
    "N2SIG3",
    "N2SIG3SHIFT",
    "N2SIG5",
    "N2SIG5SHIFT",
    "N3SIG3",
    "N3SIG3SHIFT",
    "N3SIG5",
    "N3SIG5SHIFT",
    "NN_DIST_RENORM",
    "NUMNEGRN",
    "SCALE",
    "SNR",
    "SPREADERR_MODEL",
    "SPREAD_MODEL",
)

PIXEL_FEATURES = (
    "DIFFSUMRN",
    "NUMNEGRN",
    "N2SIG3",
    "N3SIG3",
    "N2SIG5",
    "N3SIG5",
    "N2SIG3SHIFT",
    "N3SIG3SHIFT",
    "N2SIG5SHIFT",
    "N3SIG5SHIFT",
    "FLUX_RATIO",
    "GAUSS",
    "SCALE",
    "AMP",
    "COLMEDS",
    "LACOSMIC",
    "L1",
    "MASKFRAC",
)
"""Features that the pixels of a stamp triplet determine, by the survey's own definitions."""

MEASURED_FEATURES = ("A_IMAGE", "B_IMAGE", "ELLIPTICITY", "FLAGS", "SNR")
"""Features that DES took from its detection catalogue and we measure on the stamp ourselves."""

FEATURES_FROM_STAMP = PIXEL_FEATURES + MEASURED_FEATURES
"""Everything that :func:`rb.features.autoscan.compute` returns."""

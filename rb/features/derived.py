"""Combinations of autoscan features that a tree would need many splits to find.

Each is a ratio or difference of two or three features that measure nearly the same thing for a
true point source, so that their disagreement gives bogus detections away: SPREAD_MODEL in units
of its error, the flux in the central pixels against the signal-to-noise of the PSF fit, the size
of the fitted Gaussian against the isophotal one. They use nothing but the 38 features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

_Rule = Callable[[pd.DataFrame], pd.Series]
_RULES: dict[str, tuple[tuple[str, ...], _Rule]] = {
    "SPREAD_SIGNIFICANCE": (
        ("SPREAD_MODEL", "SPREADERR_MODEL"),
        lambda f: f.SPREAD_MODEL / f.SPREADERR_MODEL,
    ),
    "SUM_PER_SNR": (("DIFFSUMRN", "SNR"), lambda f: f.DIFFSUMRN / f.SNR),
    "NEGATIVE_PER_SNR": (("N2SIG5", "SNR"), lambda f: f.N2SIG5 / f.SNR),
    "AREA": (("A_IMAGE", "B_IMAGE"), lambda f: f.A_IMAGE * f.B_IMAGE),
    "FIT_FLUX": (("AMP", "SCALE"), lambda f: f.AMP * f.SCALE**2),
    "FIT_FLUX_PER_RESIDUAL": (
        ("AMP", "SCALE", "GAUSS"),
        lambda f: f.AMP * f.SCALE**2 / np.sqrt(f.GAUSS),
    ),
    "FIT_PEAK_PER_RESIDUAL": (("AMP", "GAUSS"), lambda f: f.AMP / np.sqrt(f.GAUSS)),
    "SPREAD_PER_RESIDUAL": (("L1", "GAUSS"), lambda f: f.L1 / np.sqrt(f.GAUSS)),
    "RESIDUAL_PER_SPREAD": (("GAUSS", "L1"), lambda f: f.GAUSS / f.L1.abs()),
    "FIT_SIZE_PER_SIZE": (
        ("SCALE", "A_IMAGE", "B_IMAGE"),
        lambda f: f.SCALE.abs() / np.sqrt(f.A_IMAGE * f.B_IMAGE),
    ),
    "SEPARATION_PER_SIZE": (("NN_DIST_RENORM", "A_REF"), lambda f: f.NN_DIST_RENORM / f.A_REF),
    "REFERENCE_BRIGHTNESS": (
        ("MAG_REF", "A_REF", "B_REF"),
        lambda f: f.MAG_REF + 2.5 * np.log10(f.A_REF * f.B_REF),
    ),
    "DEPTH": (("MAG", "SNR"), lambda f: f.MAG + 2.5 * np.log10(f.SNR)),
    "DEPTH_TO_REFERENCE": (
        ("MAG_FROM_LIMIT", "MAGDIFF"),
        lambda f: f.MAG_FROM_LIMIT - f.MAGDIFF,
    ),
    "SUM_PER_FLUX": (("DIFFSUMRN", "MAG"), lambda f: f.DIFFSUMRN * 10 ** (0.4 * (f.MAG - 22))),
    "FLUX_RATIO_PER_MAGNITUDES": (
        ("FLUX_RATIO", "MAG", "MAG_REF"),
        lambda f: np.log10(f.FLUX_RATIO.abs() + 1e-3) + 0.4 * (f.MAG - f.MAG_REF),
    ),
    "OUTER_NEGATIVE_2": (("N2SIG5", "N2SIG3"), lambda f: f.N2SIG5 - f.N2SIG3),
    "OUTER_NEGATIVE_3": (("N3SIG5", "N3SIG3"), lambda f: f.N3SIG5 - f.N3SIG3),
    "DEEP_NEGATIVE_SHARE": (("N3SIG5", "N2SIG5"), lambda f: f.N3SIG5 / (1 + f.N2SIG5)),
    "SHALLOW_NEGATIVE": (("NUMNEGRN", "N2SIG5"), lambda f: f.NUMNEGRN - f.N2SIG5),
    "SHIFT_STEP_3": (("N2SIG3SHIFT", "N3SIG3SHIFT"), lambda f: f.N2SIG3SHIFT - f.N3SIG3SHIFT),
    "SHIFT_STEP_5": (("N2SIG5SHIFT", "N3SIG5SHIFT"), lambda f: f.N2SIG5SHIFT - f.N3SIG5SHIFT),
}


def with_derived(features: pd.DataFrame) -> pd.DataFrame:
    """Append every combination whose ingredients are there.

    Parameters
    ----------
    features
        Autoscan features, one column each.

    Returns
    -------
    pandas.DataFrame
        The same rows with further columns; NaN where a combination has no finite value.
    """
    with np.errstate(all="ignore"):
        more = {
            name: rule(features)
            for name, (needs, rule) in _RULES.items()
            if all(need in features for need in needs)
        }
    extra = pd.DataFrame(more, index=features.index).replace([np.inf, -np.inf], np.nan)
    return pd.concat([features, extra], axis=1)

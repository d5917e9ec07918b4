"""Numbers as a person writes them."""

from __future__ import annotations

import math

from rb.metrics.intervals import Estimate


def percent(estimate: Estimate) -> str:
    """A share with its interval as percent, such as "96.1 ± 0.3 %".

    A lopsided interval, as near 0 or 100 %, keeps its two sides: "100.0 −5.2 +0.0 %".
    """
    if not estimate.defined:
        return "–"
    # A second decimal where the first would call the interval zero.
    digits = 2 if 0 < 100 * estimate.half_width < 0.05 else 1
    return f"{100 * estimate.value:.{digits}f} {_plus_minus(estimate, 100, digits)} %"


def decimal(estimate: Estimate) -> str:
    """A share with its interval as decimals, such as "0.9921 ± 0.0010"."""
    if not estimate.defined:
        return "–"
    return f"{estimate.value:.4f} {_plus_minus(estimate, 1, 4)}"


def _plus_minus(estimate: Estimate, scale: float, digits: int) -> str:
    below = scale * (estimate.value - estimate.low)
    above = scale * (estimate.high - estimate.value)
    if abs(above - below) > 0.5 * max(above, below) and abs(above - below) > 2 * 10**-digits:
        return f"−{below:.{digits}f} +{above:.{digits}f}"
    return f"± {scale * estimate.half_width:.{digits}f}"


def points(difference: Estimate, digits: int = 1) -> str:
    """A difference of two shares in percentage points, such as "+1.2 ± 0.4"."""
    if not difference.defined:
        return "–"
    return f"{100 * difference.value:+.{digits}f} ± {100 * difference.half_width:.{digits}f}"


def p_value(value: float) -> str:
    """A p-value, such as "p = 0.03" or "p = 2e-8"."""
    if math.isnan(value):
        return "p undefined"
    if value < 1e-300:
        return "p < 1e-300"
    if value < 1e-3:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"p = {mantissa}e{int(exponent)}"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def number(value: float, form: str) -> str:
    """A number in a format of Python, a dash where it is not known."""
    return "–" if math.isnan(value) else f"{value:{form}}"


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, whole beyond them, a dash where it is not known."""
    return number(value, ",.0f" if abs(value) >= 10**digits else f".{digits}g")


def two_digits(value: float) -> str:
    """Two significant digits below 10, zeros included, whole numbers above."""
    if math.isnan(value):
        return "–"
    if value == 0 or value >= 10:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def thousands(value: float) -> str:
    """A count, in thousands from 10,000 on."""
    return number(value, ",.0f") if not value >= 1e4 else f"{value / 1e3:,.0f}k"


def with_deviation(value: float, deviation: float) -> str:
    """A measured time and its median deviation, with no more digits than that one allows."""
    text = two_digits(value)
    if math.isnan(value) or math.isnan(deviation):
        return text
    digits = len(text.partition(".")[2])
    if 0 < deviation < 1:
        # One digit of the deviation, but no more of the value than three decimals.
        digits = max(digits, min(3, -math.floor(math.log10(deviation))))
    return f"{value:.{digits}f} ± {deviation:.{digits}f}"

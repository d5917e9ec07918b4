"""Speed of the autoscan features: vectorised, against one stamp at a time.

Both sides compute the same definitions; the loop takes them from the usual libraries (SciPy's
median filters and bounded least squares, sep), as a script over single stamps would. Prints
stamps per CPU second and the largest difference between the two.

    python benchmarks/features.py --stamps 2000 --loop 60
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import sep
from scipy import ndimage, optimize

from rb.features import MEASURED_FEATURES, PIXEL_FEATURES
from rb.features.autoscan import compute
from rb.features.detection import measure

Y, X = np.mgrid[:51, :51].astype(float)


def make_stamps(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stamps = rng.normal(0, 10, (n, 3, 51, 51)).astype(np.float32)
    for i in range(n):
        x, y = 25 + rng.normal(0, 0.3, 2)
        width = rng.uniform(1.6, 2.4)
        source = np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * width**2)) * rng.uniform(40, 600)
        if i % 2:
            source -= np.roll(source, 2, 1)
        stamps[i, :2] += source.astype(np.float32)
        stamps[i, 1:] += 300 * np.exp(-np.hypot(X - 25, Y - 24) / 4).astype(np.float32)
    return stamps


def rebin(raw: np.ndarray) -> np.ndarray:
    r = raw[:50, :50].reshape(25, 2, 25, 2).mean(axis=(1, 3))
    r = r - np.median(r)
    return r / (1.4826 * np.median(np.abs(r)))


def one_by_one(stamp: np.ndarray) -> dict[str, float]:
    diff, tmpl = stamp[0].astype(float), stamp[2].astype(float)
    r, t = rebin(diff), rebin(tmpl)
    result = {"DIFFSUMRN": r[10:15, 10:15].sum(), "NUMNEGRN": (r[9:16, 9:16] < 0).sum()}
    for sigma in (2, 3):
        for size, cut in ((3, (slice(10, 15),) * 2), (5, (slice(9, 16),) * 2)):
            result[f"N{sigma}SIG{size}"] = (r[cut] <= -sigma).sum()
            result[f"N{sigma}SIG{size}SHIFT"] = (r[cut] >= sigma).sum() - (t[cut] >= sigma).sum()
    light, host = (sep.sum_circle(image, [25], [25], 5.0)[0][0] for image in (diff, tmpl))
    result["FLUX_RATIO"] = (light - host) / abs(host)
    b = (diff - np.median(diff)) / np.abs(diff).max()

    def left(p: np.ndarray) -> np.ndarray:
        model = p[0] * np.exp(-((X - p[1]) ** 2 + (Y - p[2]) ** 2) / (2 * p[3] ** 2))
        return (model - b).ravel()

    bounds = ([-np.inf, 24.5, 24.5, -np.inf], [np.inf, 25.5, 25.5, np.inf])
    fit = optimize.least_squares(left, [10, 25, 25, 10], bounds=bounds)
    result["GAUSS"], result["SCALE"], result["AMP"] = 2 * fit.cost, abs(fit.x[3]), fit.x[0]
    result["COLMEDS"] = np.median(b, axis=0).max()
    smooth = ndimage.median_filter(b, 3)
    result["LACOSMIC"] = b.max() / (smooth - ndimage.median_filter(smooth, 7)).max()
    result["L1"] = np.sign(b.sum()) * np.abs(b).sum() / np.sqrt(abs(b.sum()))
    result["MASKFRAC"] = 0.0
    return result | {name: float(v[0]) for name, v in measure(diff[None]).items()}


def rate(work: Callable[[], object], n: int) -> float:
    start = time.process_time()
    work()
    return n / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stamps", type=int, default=2000, help="triplets for the vectorised run")
    parser.add_argument("--loop", type=int, default=60, help="triplets for the loop")
    options = parser.parse_args()
    stamps = make_stamps(options.stamps)
    compute(stamps[:10])
    fast = rate(lambda: compute(stamps), options.stamps)
    slow = rate(lambda: [one_by_one(s) for s in stamps[: options.loop]], options.loop)
    print(f"vectorised  {fast:8.0f} stamps per CPU second")
    print(f"loop        {slow:8.0f} stamps per CPU second, {fast / slow:.1f} times slower")
    table = compute(stamps[: options.loop])
    loop = [one_by_one(s) for s in stamps[: options.loop]]
    exact = [c for c in PIXEL_FEATURES + MEASURED_FEATURES if c not in ("GAUSS", "SCALE", "AMP")]
    worst = max(
        np.nanmax(np.abs(table[c] - [r[c] for r in loop]) / (1e-6 + np.abs(table[c])))
        for c in exact
    )
    residual = np.abs(table["GAUSS"] / [r["GAUSS"] for r in loop] - 1)
    print(f"largest relative difference, all but the fit: {worst:.1e}")
    print(f"residual of the fit: equal to 1e-5 for {(residual < 1e-5).mean():.1%} of the stamps")


if __name__ == "__main__":
    main()

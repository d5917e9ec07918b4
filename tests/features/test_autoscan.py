"""Each feature on stamps made for it, and against a plain loop over one stamp at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sep
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, optimize

from rb.errors import UserError
from rb.features import ALL_38, FEATURES_FROM_STAMP, MEASURED_FEATURES, PIXEL_FEATURES
from rb.features.autoscan import compute
from rb.features.gaussian import fit_gaussian

Y, X = np.mgrid[:51, :51].astype(float)


def gaussian(amplitude: float, sigma: float, x: float = 25, y: float = 25) -> np.ndarray:
    return amplitude * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / (2 * sigma**2))


def noise(seed: int = 0, sigma: float = 10.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, (51, 51))


def triplet(diff: np.ndarray, tmpl: np.ndarray | None = None) -> np.ndarray:
    return np.stack([diff, diff, noise(99) if tmpl is None else tmpl])[None]


def features(diff: np.ndarray, tmpl: np.ndarray | None = None) -> dict[str, float]:
    return compute(triplet(diff, tmpl)).iloc[0].to_dict()


def blocks(values: np.ndarray) -> np.ndarray:
    """A 51x51 stamp whose 2x2 means are the 25x25 `values`."""
    return np.pad(np.repeat(np.repeat(values, 2, 0), 2, 1), ((0, 1), (0, 1)))


def noisy_blocks() -> np.ndarray:
    """25x25 values with median 0 and 1.4826 MAD 1, but all zero in the central 9x9."""
    values = np.full(625, 1 / 1.4826)
    values[::2] *= -1
    values = values.reshape(25, 25)
    values[8:17, 8:17] = 0
    # 81 zeros and 272 of each sign: the median is 0 and more than half lie 1/1.4826 away.
    assert np.median(values) == 0
    return values


def plain(stamp: np.ndarray) -> dict[str, float]:
    """The definitions once more, one stamp at a time, with SciPy's own filters and fitter."""
    diff, tmpl = stamp[0].astype(float), stamp[2].astype(float)

    def rebin(raw: np.ndarray) -> np.ndarray:
        r = raw[:50, :50].reshape(25, 2, 25, 2).mean(axis=(1, 3))
        r = r - np.median(r)
        return r / (1.4826 * np.median(np.abs(r)))

    r, t = rebin(diff), rebin(tmpl)
    b = (diff - np.median(diff)) / np.abs(diff).max()
    five, seven = (slice(10, 15),) * 2, (slice(9, 16),) * 2
    m3 = ndimage.median_filter(b, 3)
    flux = [sep.sum_circle(im, [25], [25], 5.0)[0][0] for im in (diff, tmpl)]
    return {
        "DIFFSUMRN": r[five].sum(),
        "NUMNEGRN": (r[seven] < 0).sum(),
        "N2SIG3": (r[five] <= -2).sum(),
        "N3SIG3": (r[five] <= -3).sum(),
        "N2SIG5": (r[seven] <= -2).sum(),
        "N3SIG5": (r[seven] <= -3).sum(),
        "N2SIG3SHIFT": (r[five] >= 2).sum() - (t[five] >= 2).sum(),
        "N3SIG3SHIFT": (r[five] >= 3).sum() - (t[five] >= 3).sum(),
        "N2SIG5SHIFT": (r[seven] >= 2).sum() - (t[seven] >= 2).sum(),
        "N3SIG5SHIFT": (r[seven] >= 3).sum() - (t[seven] >= 3).sum(),
        "FLUX_RATIO": (flux[0] - flux[1]) / abs(flux[1]),
        "COLMEDS": np.median(b, axis=0).max(),
        "LACOSMIC": b.max() / (m3 - ndimage.median_filter(m3, 7)).max(),
        "L1": np.sign(b.sum()) * np.abs(b).sum() / np.sqrt(abs(b.sum())),
        "MASKFRAC": 0.0,
    }


def candidates(n: int, seed: int = 0) -> np.ndarray:
    """Triplets with point sources, dipoles, galaxies and hot pixels."""
    rng = np.random.default_rng(seed)
    stamps = rng.normal(0, 10, (n, 3, 51, 51))
    for i, stamp in enumerate(stamps):
        x, y = 25 + rng.normal(0, 0.3, 2)
        source = gaussian(rng.choice([50, 200, 2000]), rng.uniform(1.4, 2.5), x, y)
        if i % 3 == 1:
            source -= np.roll(source, 2, 1)
        stamp[:2] += source
        stamp[1:] += gaussian(500, 4)
        if i % 5 == 4:
            stamp[0, rng.integers(51), rng.integers(51)] = 4000
    return stamps


# -- one by one ------------------------------------------------------------------------------


def test_the_names_are_those_of_the_table():
    assert len(set(ALL_38)) == len(ALL_38) == 38
    assert set(FEATURES_FROM_STAMP) < set(ALL_38)
    assert list(compute(candidates(2)).columns) == list(FEATURES_FROM_STAMP)


def test_all_pixel_features_equal_a_plain_loop():
    stamps = candidates(30)
    table = compute(stamps)
    for i, stamp in enumerate(stamps):
        for name, value in plain(stamp).items():
            assert table[name][i] == pytest.approx(value, rel=1e-7, abs=1e-9), (i, name)


def test_diffsumrn_and_numnegrn():
    values = noisy_blocks()
    values[10:15, 10:15] = 2.0  # the 5x5
    values[9, 9:16] = -0.5  # a row of the 7x7 outside of it
    values[8, 9:16] = -50.0  # outside of both
    f = features(blocks(values))
    assert f["DIFFSUMRN"] == pytest.approx(50)
    assert f["NUMNEGRN"] == 7


def test_negative_counts():
    values = noisy_blocks()
    values[10, 10:14] = [-2.0, -2.5, -3.0, -100.0]
    values[9, 9:13] = [-2.1, -1.9, -3.1, -9.0]
    f = features(blocks(values))
    # The threshold itself counts; rounding of the scale may put -2 on either side.
    values[10, 10:14] = [-2.0 - 1e-9, -2.5, -3.0 - 1e-9, -100.0]
    f = features(blocks(values))
    assert (f["N2SIG3"], f["N3SIG3"]) == (4, 2)
    assert (f["N2SIG5"], f["N3SIG5"]) == (7, 4)


def test_shift_counts_are_those_of_diff_minus_template():
    diff, tmpl = noisy_blocks(), noisy_blocks()
    diff[10, 10:14] = [2.1, 2.9, 3.1, 30.0]
    diff[15, 15] = 3.5
    tmpl[12, 12] = 2.5
    tmpl[9, 9:11] = [4.0, 2.5]
    f = features(blocks(diff), blocks(tmpl))
    assert (f["N2SIG3SHIFT"], f["N3SIG3SHIFT"]) == (4 - 1, 2 - 0)
    assert (f["N2SIG5SHIFT"], f["N3SIG5SHIFT"]) == (5 - 3, 3 - 1)


def test_the_last_row_and_column_do_not_enter_the_rebinned_form():
    diff = noise(1)
    before = features(diff)
    diff[50, :30] += 3
    after = features(diff)
    for name in ("DIFFSUMRN", "NUMNEGRN", "N2SIG5", "N2SIG5SHIFT"):
        assert after[name] == before[name]


def test_flux_ratio():
    flat = np.ones((51, 51))
    assert features(3 * flat, 2 * flat)["FLUX_RATIO"] == pytest.approx(0.5)
    assert features(3 * flat, -2 * flat)["FLUX_RATIO"] == pytest.approx(2.5)
    # A pixel at 5 px from the centre counts in part, one at 6 px not at all.
    inside, outside = flat.copy(), flat.copy()
    outside[25, 31] = 1e9
    assert features(outside, flat)["FLUX_RATIO"] == pytest.approx(0)
    inside[25, 30] = 1e9
    share = sep.sum_circle((np.hypot(X - 30, Y - 25) == 0).astype(float), [25], [25], 5.0)[0][0]
    assert 0 < share < 1
    area = sep.sum_circle(flat, [25], [25], 5.0)[0][0]
    assert features(inside, flat)["FLUX_RATIO"] == pytest.approx(share * (1e9 - 1) / area)
    assert np.isnan(features(flat, 0 * flat)["FLUX_RATIO"])


def test_gaussian_features_recover_a_gaussian():
    f = features(gaussian(300, 2.2, 25.3, 24.8))
    # Form B divides by the peak pixel, which lies below the Gaussian's own peak.
    peak = gaussian(1, 2.2, 25.3, 24.8).max()
    assert f["AMP"] == pytest.approx(1 / peak, rel=1e-6)
    assert f["SCALE"] == pytest.approx(2.2, rel=1e-6)
    assert f["GAUSS"] == pytest.approx(0, abs=1e-9)


def test_the_gaussians_centre_is_bounded():
    fit = fit_gaussian(gaussian(1, 2.0, 27.0, 25.0)[None])
    assert fit.x[0] == 25.5
    assert fit.y[0] == pytest.approx(25.0, abs=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_fits_equal_scipys(masked):
    images = candidates(24, seed=5)[:, 0]
    images = images / np.abs(images).max(axis=(1, 2), keepdims=True)
    if masked:
        images[:, 20:24, :30] = np.nan
    fit = fit_gaussian(images)
    same = 0
    for i, image in enumerate(images):
        kept = np.isfinite(image)

        def left(p, image=image, kept=kept):
            return (gaussian(p[0], p[3], p[1], p[2]) - image)[kept]

        low, high = [-np.inf, 24.5, 24.5, -np.inf], [np.inf, 25.5, 25.5, np.inf]

        def solve(start, left=left, low=low, high=high):
            return optimize.least_squares(
                left, start, bounds=(low, high), ftol=1e-13, xtol=1e-13, gtol=1e-13
            )

        theirs = solve([10, 25, 25, 10])
        mine = [fit.amplitude[i], fit.x[i], fit.y[i], fit.sigma[i]]
        assert fit.residual[i] == pytest.approx((left(mine) ** 2).sum(), rel=1e-9)
        if fit.sigma[i] > 100:
            continue  # a flat surface: one of the minima of a stamp without a clear source
        # It is a minimum: from here SciPy gets no further. Dipoles and noise have several.
        assert fit.residual[i] <= 2 * solve(mine).cost * (1 + 1e-7)
        if np.isclose(fit.residual[i], 2 * theirs.cost, rtol=1e-7):
            same += 1
            if fit.amplitude[i] > 0.3:  # else the source is lost in the noise
                np.testing.assert_allclose(mine[1:3], theirs.x[1:3], atol=2e-3)
                np.testing.assert_allclose(mine[3], abs(theirs.x[3]), rtol=2e-3)
                np.testing.assert_allclose(mine[0], theirs.x[0], rtol=2e-3)
    assert same >= 20, same


def test_colmeds():
    diff = noise(2)
    diff[:, 17] += 100
    b = (diff - np.median(diff)) / np.abs(diff).max()
    assert features(diff)["COLMEDS"] == pytest.approx(np.median(b[:, 17]))


def test_lacosmic_tells_cosmic_rays_from_sources():
    ray, source = noise(3), noise(3)
    ray[25, 25] += 3000
    source += gaussian(3000, 2.0)
    assert features(ray)["LACOSMIC"] > 20 * features(source)["LACOSMIC"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(0, 50), st.integers(0, 50))
def test_lacosmic_equals_scipys_filters_on_any_stamp(seed, levels, row, column):
    """Few levels mean many ties, constant windows and medians equal to minima."""
    images = np.random.default_rng(seed).integers(0, levels, (2, 51, 51)).astype(float)
    images[0] += gaussian(40, 3, column, row).round()
    stamps = np.stack([images] * 3, axis=1)
    for value, image in zip(compute(stamps)["LACOSMIC"], images, strict=True):
        m3 = ndimage.median_filter(image, 3)
        fine = (m3 - ndimage.median_filter(m3, 7)).max()
        peak = image.max() - np.median(image)
        if fine == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(peak / fine, rel=1e-9)


def test_l1():
    diff = np.zeros((51, 51))
    diff[0, 0], diff[3, 7] = 4.0, -1.0  # B: 1 and -0.25
    assert features(diff)["L1"] == pytest.approx(1.25 / np.sqrt(0.75))
    assert features(-diff)["L1"] == pytest.approx(-1.25 / np.sqrt(0.75))


def test_maskfrac():
    diff = noise(4)
    diff[:10, :10] = 1e-30
    diff[50, 50] = np.nan
    assert features(diff)["MASKFRAC"] == pytest.approx(101 / 2601)


# -- measured on the stamp -------------------------------------------------------------------


def test_measured_shape_and_signal_to_noise():
    rng = np.random.default_rng(6)
    shape, ratio = 2.5, 0.6
    elongated = 4000 * np.exp(-((X - 25) ** 2) / (2 * shape**2) - (Y - 25) ** 2 / 2 / 1.5**2)
    f = features(rng.normal(0, 10, (51, 51)) + elongated)
    assert f["A_IMAGE"] == pytest.approx(shape, rel=0.15)
    assert f["ELLIPTICITY"] == pytest.approx(1 - ratio, abs=0.06)
    assert f["ELLIPTICITY"] == pytest.approx(1 - f["B_IMAGE"] / f["A_IMAGE"])
    assert f["FLAGS"] == 0
    sigma = 4.4 / 2.3548
    stamps = np.stack([triplet(noise(i) + gaussian(60, sigma) + 7)[0] for i in range(60)])
    # In Gaussian noise the best possible: A sqrt(pi) σ / noise.
    expected = 60 * np.sqrt(np.pi) * sigma / 10
    snr = compute(stamps)["SNR"]
    assert snr.mean() == pytest.approx(expected, rel=0.03)
    assert snr.std() == pytest.approx(1, rel=0.35)


def test_flags_of_a_blend():
    f = features(noise(8) + gaussian(900, 1.6, 24, 25) + gaussian(800, 1.6, 30, 25))
    assert f["FLAGS"] == 2


def test_without_a_source_there_is_no_shape():
    diff = np.random.default_rng(0).choice([-1.0, 1.0], (51, 51))
    diff[15:36, 15:36] = -1.0
    f = features(diff)
    for name in MEASURED_FEATURES[:4]:
        assert np.isnan(f[name])


# -- masks, constants, layout ----------------------------------------------------------------


def test_constant_and_empty_stamps_have_defined_answers():
    rng = np.random.default_rng(7)
    stamps = rng.normal(0, 10, (5, 3, 51, 51))
    stamps[0, 0] = 5.0
    stamps[1, 0] = 0.0
    stamps[2, 0] = 1e-30
    stamps[3, 2] = np.nan
    table = compute(stamps)
    for i in (0, 1):
        row = table.iloc[i]
        assert (row[["GAUSS", "AMP", "COLMEDS", "MASKFRAC"]] == 0).all()
        assert row[["SCALE", "LACOSMIC", "L1", "DIFFSUMRN", "N2SIG5", "A_IMAGE"]].isna().all()
    assert table.MASKFRAC[2] == 1
    assert table.iloc[2].drop("MASKFRAC").isna().all()
    of_template = [n for n in PIXEL_FEATURES if n.endswith("SHIFT") or n == "FLUX_RATIO"]
    assert table.loc[3, of_template].isna().all()
    of_source = ["A_IMAGE", "B_IMAGE", "ELLIPTICITY", "FLAGS"]
    assert table.loc[3].drop(of_template + of_source).notna().all()
    assert table.loc[4].drop(of_source).notna().all()


def test_masked_pixels_enter_nothing():
    """Whatever a masked pixel hides, the features are those of the pixels that are left."""
    base = candidates(12, seed=9)
    masks = np.random.default_rng(1).random((12, 1, 51, 51)) < 0.03
    tables = [compute(np.where(masks, value, base)) for value in (1e-30, np.nan, -np.inf)]
    for table in tables[1:]:
        np.testing.assert_array_equal(table, tables[0])
    single = compute(np.where(masks, 1e-30, base).astype(np.float32))
    np.testing.assert_allclose(single, tables[0], rtol=2e-3, atol=2e-3)
    assert (tables[0].MASKFRAC > 0).all()
    for i in range(12):
        diff = np.where(masks[i, 0], np.nan, base[i, 0])
        b = (diff - np.nanmedian(diff)) / np.nanmax(np.abs(diff))
        assert tables[0].COLMEDS[i] == pytest.approx(np.nanmedian(b, axis=0).max())
        assert tables[0].L1[i] == pytest.approx(
            np.sign(np.nansum(b)) * np.nansum(np.abs(b)) / np.sqrt(abs(np.nansum(b)))
        )
        r = np.nanmean(diff[:50, :50].reshape(25, 2, 25, 2), axis=(1, 3))
        r = r - np.nanmedian(r)
        r /= 1.4826 * np.nanmedian(np.abs(r))
        assert tables[0].DIFFSUMRN[i] == pytest.approx(np.nansum(r[10:15, 10:15]))

        def window_median(image, size):
            return ndimage.generic_filter(image, np.nanmedian, size)

        if i < 2:
            m3 = window_median(b, 3)
            fine = np.nanmax(m3 - window_median(m3, 7))
            assert tables[0].LACOSMIC[i] == pytest.approx(np.nanmax(b) / fine)


@settings(max_examples=10, deadline=None)
@given(chunk=st.integers(1, 20), scale=st.sampled_from([1e-3, 1.0, 1e4]))
def test_neither_chunks_nor_units_matter(chunk, scale):
    stamps = candidates(15, seed=3)
    stamps[4, 0, :5] = np.nan
    expected = compute(stamps)
    np.testing.assert_allclose(compute(stamps * scale, chunk=chunk), expected, rtol=1e-4, atol=1e-6)


def test_memory_maps_are_read_in_pieces(tmp_path: Path):
    np.save(tmp_path / "s.npy", candidates(20).astype(np.float32))
    stamps = np.load(tmp_path / "s.npy", mmap_mode="r")
    done: list[int] = []
    table = compute(stamps, chunk=8, progress=done.append)
    assert done == [8, 16, 20]
    assert len(table) == 20
    assert len(compute(stamps[:0])) == 0


def test_other_shapes_are_refused():
    for shape in [(4, 3, 63, 63), (3, 51, 51), (4, 2, 51, 51)]:
        with pytest.raises(UserError, match="have shape"):
            compute(np.zeros(shape))
    with pytest.raises(UserError, match="chunk"):
        compute(np.zeros((1, 3, 51, 51)), chunk=0)

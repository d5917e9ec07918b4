"""Matching search and template inside a network: known PSFs, shifts and scales are found again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pairs import SIDE, pair, pairs
from scipy.signal import fftconvolve

from rb.errors import UserError
from rb.models.modern.matching import PLANES, Matching, _solve_positive
from rb.models.modern.operations import _convolve_by_matrices, convolve, median, whiten
from rb.models.modern.planes import InputPlanes
from rb.models.modern.psf import log_width, moffat, pair_psfs
from rb.survey.pipeline.measure import moved

INSIDE = slice(6, -6)


def made(size: int = 51, side=SIDE, matching=PLANES, **more) -> InputPlanes:
    return InputPlanes((2, size, size), ("srch", "tmpl"), side, matching, True, **more)


def planes_of(x, side=None, **more) -> dict[str, torch.Tensor]:
    """Planes in units of the noise, by name."""
    inputs = made(x.shape[-1], SIDE if side is not None else (), **more)
    planes, _ = inputs(x, side)
    return dict(zip(inputs.names, planes.sinh().unbind(1), strict=True))


@pytest.mark.parametrize("size", [30, 51, 63])
def test_convolution_is_scipys(size):
    rng = np.random.default_rng(1)
    images, kernels = rng.normal(size=(3, size, size)), rng.uniform(size=(3, 21, 21))
    wanted = [fftconvolve(a, b, mode="same") for a, b in zip(images, kernels, strict=True)]
    a, b = torch.tensor(images).float(), torch.tensor(kernels).float()
    np.testing.assert_allclose(convolve(a, b), wanted, atol=1e-4)
    np.testing.assert_allclose(_convolve_by_matrices(a, b, (size + 14) // 2 * 2), wanted, atol=1e-4)


def test_unrolled_elimination_is_scipys():
    rng = np.random.default_rng(2)
    half = rng.normal(size=(5, 15, 40))
    matrix, right = half @ half.transpose(0, 2, 1), rng.normal(size=(5, 15, 1))
    found = _solve_positive(torch.tensor(matrix).float(), torch.tensor(right).float())
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right)[..., 0], rtol=1e-3, atol=1e-4)


def test_moffats_have_their_width_and_shape():
    fwhm = torch.tensor([3.5, 5.0])
    psfs = moffat(fwhm, size=25)
    torch.testing.assert_close(psfs.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(log_width(psfs[None])[0], torch.log(fwhm / 3.5), atol=0.02, rtol=0)
    long = moffat(fwhm[:1], torch.tensor([0.3]), torch.tensor([0.0]), size=25)[0]
    assert long[12, 15] > long[15, 12]  # e1 > 0: along x
    slanted = moffat(fwhm[:1], torch.tensor([0.0]), torch.tensor([0.3]), size=25)[0]
    assert slanted[14, 14] > slanted[14, 10]  # e2 > 0: along the diagonal


@pytest.mark.parametrize(("search", "template"), [(4.5, 3.5), (3.2, 4.2), (5.5, 3.2)])
def test_crossed_psfs_take_all_stars_away(search, template):
    x, side = pairs(6, search=search, template=template)
    plain = (x[:, 0] - 300) - (x[:, 1] - 20)
    before = (plain[:, INSIDE, INSIDE] / 29**0.5).std()
    after = planes_of(x, side)["cross"][:, INSIDE, INSIDE].std()
    # The rest comes from stars outside the stamp, and from wings beyond the PSF's image.
    assert after < 2
    assert after < before / 2


def test_white_planes_have_white_noise():
    random = torch.Generator().manual_seed(1)
    levels = torch.tensor([[5.0, 300.0], [2.0, 20.0]])
    noise = torch.randn(60, 2, 51, 51, generator=random) * levels[:, 0, None, None]
    side = pairs(1)[1].expand(60, -1)
    planes = planes_of(noise + levels[:, 1, None, None], side)
    power = {
        plane: torch.fft.rfft2(planes[plane][:, INSIDE, INSIDE]).abs().square().mean(0)
        for plane in ("cross", "white_cross")
    }
    # At the scales of a PSF, up to half of the highest frequency along a side of 39 px.
    for plane, even in (("cross", False), ("white_cross", True)):
        along = power[plane][0, 1:7]
        assert (along.max() < 1.5 * along.min()) == even, plane
    assert power["white_cross"][0, 1:7].mean() / 39**2 == pytest.approx(1, rel=0.15)


def test_whitening_is_the_same_in_an_exported_graph(monkeypatch):
    images, kernels = torch.randn(3, 4, 51, 51), torch.rand(3, 2, 25, 25)
    kernels /= kernels.sum((-2, -1), keepdim=True)
    weights = torch.rand(3, 2) + 0.1
    plain = whiten(images, kernels, weights)
    monkeypatch.setattr("rb.models.modern.operations.exporting", lambda: True)
    torch.testing.assert_close(whiten(images, kernels, weights), plain, atol=1e-4, rtol=1e-4)


def test_a_psf_off_the_middle_registers_the_pair():
    x, side = pairs(6, shift=(0.3, -0.2))
    psf = side[:, : 21**2].reshape(-1, 21, 21).numpy()
    registered = side.clone()
    step = np.full(len(psf), 0.3), np.full(len(psf), -0.2)
    registered[:, : 21**2] = torch.from_numpy(moved(psf, *step)).flatten(1)
    off, on = (planes_of(x, told)["cross"][:, INSIDE, INSIDE].std() for told in (side, registered))
    assert on < 2
    assert on < off / 2


def test_the_fit_finds_shift_and_scale_and_takes_them_away():
    x, side = pairs(8, shift=(0.25, -0.15), scale=1.06)
    side[:, -2:] = 0  # zero points unknown: the fit has to find the scale
    planes = planes_of(x, side)
    cross, fit = (planes[p][:, INSIDE, INSIDE].std() for p in ("cross", "fit_all"))
    assert fit < 1.3 < 3 < cross
    kernels = made(matching=("fit_all",)).kernel(x, side).mean(0)
    u = torch.arange(25.0) - 12
    total = kernels.sum()
    assert total == pytest.approx(1.06, abs=0.015)
    assert (kernels.sum(0) * u).sum() / total == pytest.approx(0.25, abs=0.03)
    assert (kernels.sum(1) * u).sum() / total == pytest.approx(-0.15, abs=0.03)


def test_without_psfs_the_stamp_itself_tells_the_kernel():
    x, side = pairs(8)
    known, unknown = planes_of(x, side), planes_of(x)
    assert unknown["cross"][:, INSIDE, INSIDE].std() > 4
    assert unknown["fit"][:, INSIDE, INSIDE].std() < 1.4
    # A NaN or a zero in place of either PSF is as good as none.
    for lacking in (float("nan"), 0.0):
        spoilt = side.clone()
        spoilt[:, : 21**2] = lacking
        spoilt[:, -4:] = lacking
        torch.testing.assert_close(
            planes_of(x, spoilt)["fit"], unknown["fit"], atol=0.02, rtol=0.01
        )
    assert (known["cross"] - unknown["cross"]).abs().max() > 1


def test_only_widths_are_enough():
    x, side = pairs(4)
    psfs, known = pair_psfs(
        {"psf_fwhm_srch": torch.full((4,), 4.5), "psf_fwhm_tmpl": torch.full((4,), 3.5)},
        None,
        x,
        21,
    )
    torch.testing.assert_close(psfs.flatten(1), side[:, : 2 * 21**2])
    assert known.tolist() == [1, 1, 1, 1]


def test_a_supernova_stays():
    x, side = pair(3)
    psf = moffat(torch.tensor([4.5]), size=21)[0]
    new = x.clone()
    new[0, 0, 15:36, 15:36] += 800 * psf  # 17 σ for the best filter
    for plane in PLANES:
        gain = planes_of(new, side)[plane] - planes_of(x, side)[plane]
        # With white noise it is a source like any other, as bright as its brightest pixel.
        assert gain[0, 25, 25] > (3 if plane.startswith("white") else 9), plane
        # The rim, beyond which flux is missing, is sharpened too.
        seen = gain[0, INSIDE, INSIDE] if plane.startswith("white") else gain[0]
        size = len(seen)
        place = torch.tensor(divmod(int(seen.argmax()), size))
        assert (place - size // 2).abs().max() <= 1, plane


def test_zero_points_bring_both_to_one_flux_scale():
    x, side = pairs(4)
    scaled = x.clone()
    scaled[:, 1] *= 10**0.2
    moved = side.clone()
    moved[:, -1] += 0.5
    moved[:, -3] *= 10**0.2
    torch.testing.assert_close(
        planes_of(scaled, moved)["cross"], planes_of(x, side)["cross"], atol=1e-2, rtol=1e-3
    )


def test_gradients_flow_and_are_finite():
    x, side = pairs(2)
    x.requires_grad_()
    planes, scalars = made()(x, side)
    (planes.square().mean() + scalars.sum()).backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[:, 0] != 0).any()
    assert (x.grad[:, 1] != 0).any()


@pytest.mark.parametrize("what", [0.0, 7.0, 1e9])
def test_stamps_without_anything_in_them_make_finite_planes(what):
    x, side = torch.full((2, 2, 51, 51), what), pairs(2)[1]
    for told in (side, torch.zeros_like(side), torch.full_like(side, float("nan"))):
        planes, scalars = made()(x, told)
        assert torch.isfinite(planes).all()
        assert torch.isfinite(scalars).all()


def test_an_unknown_plane_is_refused():
    with pytest.raises(UserError, match="matching is \\['diff'\\]; give some of cross, fit"):
        Matching(51, ("diff",))


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_every_way_to_a_median_is_the_same(count, seed):
    x = torch.randn(3, 2 * count, generator=torch.Generator().manual_seed(seed))[:, ::2].round()
    torch.testing.assert_close(median(x), x.median(1).values, rtol=0, atol=0)
    watched = x.clone().requires_grad_()
    torch.testing.assert_close(median(watched), x.median(1).values, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(median(watched).sum(), watched)
    assert gradient.sum() == 3

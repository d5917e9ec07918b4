"""Sources keep their flux, position and shape; both renderers agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rb.survey.sky.profiles import SERSIC_GRID, moffat_mixture, sersic_mixture
from rb.survey.sky.render import Shapes, Sources, draw_sources


def draw(x, y, flux, radius=0.0, index=1.0, e1=0.0, e2=0.0, fwhm=4.5, renderer="mixture", size=161):
    image = np.zeros((size, size), np.float32)
    one = [np.array([float(v)]) for v in (x, y, flux, radius, index, e1, e2)]
    shapes = Shapes(np.array([fwhm]), np.array([0.02]), np.array([-0.03]), 3.0)
    draw_sources(image, Sources(*one), shapes, renderer, floor=flux * 1e-7)
    return image


@settings(max_examples=40, deadline=None)
@given(
    x=st.floats(70, 90),
    y=st.floats(70, 90),
    radius=st.sampled_from([0.0, 1.0, 3.0]),
    index=st.sampled_from([0.5, 1.0, 4.0]),
    e1=st.floats(-0.4, 0.4),
    fwhm=st.floats(3.0, 7.0),
)
def test_flux_and_position_are_kept(x, y, radius, index, e1, fwhm):
    image = draw(x, y, 1e4, radius, index, e1, 0.2, fwhm)
    assert image.sum() == pytest.approx(1e4, rel=0.01)
    rows, columns = np.indices(image.shape)
    assert np.sum(image * columns) / image.sum() == pytest.approx(x, abs=0.02)
    assert np.sum(image * rows) / image.sum() == pytest.approx(y, abs=0.02)


@pytest.mark.parametrize(
    ("radius", "index"), [(0.0, 1.0), (2.0, 0.5), (3.0, 1.0), (4.0, 2.0), (4.0, 4.0)]
)
def test_renderers_agree(radius, index):
    mixture = draw(80.3, 79.6, 1e5, radius, index, 0.3, 0.2)
    exact = draw(80.3, 79.6, 1e5, radius, index, 0.3, 0.2, renderer="galsim")
    assert np.abs(mixture - exact).max() < 0.04 * exact.max()
    assert mixture.sum() == pytest.approx(exact.sum(), rel=0.01)


def test_sources_beyond_the_edge_are_cut_not_wrapped():
    image = draw(-3.0, 80.0, 1e4)
    assert 0 < image.sum() < 5e3
    assert image[:, 80:].max() < 1e-3 * image.max()


@pytest.mark.parametrize("index", SERSIC_GRID)
def test_half_the_light_lies_within_the_half_light_radius(index):
    weights, variances = sersic_mixture(index)
    assert weights.sum() == pytest.approx(1.0)
    inside = np.sum(weights * (1.0 - np.exp(-0.5 / variances)))
    # Profiles are cut at 8 half-light radii, which takes light from the outskirts of n = 4.
    assert inside == pytest.approx(0.5, abs=0.06)


def test_moffat_mixture_has_the_right_width():
    weights, variances = moffat_mixture(3.0)

    def profile(r):
        return np.sum(weights / variances * np.exp(-0.5 * r**2 / variances))

    assert profile(0.5) / profile(0.0) == pytest.approx(0.5, abs=0.01)

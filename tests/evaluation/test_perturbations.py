"""What perturbations do to stamps."""

from __future__ import annotations

import numpy as np
import pytest

from rb.errors import UserError
from rb.evaluation.perturbations import PERTURBATIONS, Strength
from rb.stamps.batch import Stamps


def stamps(n: int = 3, size: int = 31) -> Stamps:
    rng = np.random.default_rng(0)
    images = rng.normal(0, 1, (n, 3, size, size)).astype("f4") + np.float32(10)
    images[:, :2, size // 2, size // 2] += 100
    return Stamps(images, np.ones_like(images))


def made(name: str, **strength: float) -> np.ndarray:
    return PERTURBATIONS[name].make(stamps(), Strength(**strength)).images


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("size", [30, 51])
def test_shape_stays_and_the_original_is_left_alone(name: str, size: int) -> None:
    before = stamps(size=size)
    kept = before.images.copy()
    after = PERTURBATIONS[name].make(before, Strength())
    assert after.images.shape == kept.shape and after.images.dtype == np.float32
    np.testing.assert_array_equal(before.images, kept)
    assert not np.array_equal(after.images, kept)
    # Stamps without a pixel must not stop it, nor become measured.
    nothing = Stamps(np.full_like(kept, np.nan))
    left = PERTURBATIONS[name].make(nothing, Strength()).images
    assert np.isnan(left).mean() > 0.5 or name in ("constant", "saturated star")


def test_by_hand() -> None:
    kept = stamps().images
    assert np.isnan(made("nan rows", nan_rows=0.1)[:, :, :3]).all()
    assert np.isfinite(made("nan rows", nan_rows=0.1)[:, :, 3:]).all()
    np.testing.assert_array_equal(made("swapped"), kept[:, [0, 2, 1]])
    np.testing.assert_array_equal(made("wrong sign")[:, 0], -kept[:, 0])
    negative = made("negative source")
    np.testing.assert_array_equal(negative[:, 0], -kept[:, 0])
    np.testing.assert_array_equal(negative[:, 2], kept[:, 1])
    np.testing.assert_array_equal(made("turned")[:, :, 0], kept[:, :, :, -1])
    np.testing.assert_array_equal(made("turned template")[:, :2], kept[:, :2])
    off = made("off centre", shift=3)
    np.testing.assert_array_equal(off[:, :, 3:, 3:], kept[:, :, :-3, :-3])
    np.testing.assert_array_equal(made("other unit", unit=8.0), 8 * kept)
    assert np.isnan(made("empty")).all() and np.ptp(made("constant"), axis=(2, 3)).max() == 0
    variable = made("variable")
    np.testing.assert_array_equal(variable[:, 0], kept[:, 0])
    assert (variable[:, 2, 15, 15] > kept[:, 2, 15, 15] + 20).all()
    assert (made("saturated star")[:, 0] == 0).any(axis=(1, 2)).all()


def test_units_of_variances_go_with_those_of_pixels() -> None:
    after = PERTURBATIONS["other unit"].make(stamps(), Strength(unit=10.0))
    assert after.variance is not None and (after.variance == 100).all()


def test_strengths_are_checked() -> None:
    with pytest.raises(UserError, match="study.strength.finer is 2"):
        Strength(finer=2)

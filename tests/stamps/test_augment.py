"""Turned and mirrored stamps, and their PSFs with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rb.models.modern.psf import moffat
from rb.stamps.augment import DIHEDRAL, augment, turned


def test_the_eight_symmetries_are_those_of_numpy():
    image = np.random.default_rng(0).normal(size=(5, 5))
    wanted = {np.rot90(a, k).tobytes() for a in (image, image.T) for k in range(4)}
    found = {turned(torch.from_numpy(image), e).numpy().tobytes() for e in DIHEDRAL}
    assert found == wanted


@pytest.mark.parametrize("stacking", ["depth", "horizontal"])
def test_every_symmetry_is_drawn_and_all_panels_turn_alike(stacking):
    image = torch.randn(7, 7)
    stack = torch.stack([image, 2 * image])
    x = stack if stacking == "depth" else torch.cat([image, 2 * image], 1)[None]
    torch.manual_seed(1)
    out, _ = augment(x.repeat(400, 1, 1, 1), None, ())
    first = out[:, 0] if stacking == "depth" else out[:, 0, :, :7]
    second = out[:, 1] if stacking == "depth" else out[:, 0, :, 7:]
    torch.testing.assert_close(second, 2 * first)
    seen = [sum(torch.equal(f, turned(image, e)) for f in first) for e in DIHEDRAL]
    assert sum(seen) == 400
    assert min(seen) > 20


def test_psfs_and_ellipticities_turn_with_the_stamp():
    e1, e2 = torch.tensor([0.2]), torch.tensor([0.15])
    names = ("psf_e1_srch", "psf", "psf_e2_srch", "psf_fwhm_srch")
    shape = moffat(torch.tensor([4.0]), e1, e2, size=9)
    n = 64
    x = shape[:, None].expand(n, 1, 9, 9)
    parts = [e1, shape.flatten(), shape.flatten(), e2, torch.tensor([4.0])]
    side = torch.cat(parts)[None].expand(n, -1)
    torch.manual_seed(2)
    out, turned_side = augment(x, side, names)
    psfs = turned_side[:, 1 : 1 + 2 * 81].reshape(n, 2, 9, 9)
    torch.testing.assert_close(psfs[:, 0], out[:, 0])
    torch.testing.assert_close(psfs[:, 1], out[:, 0])
    again = moffat(turned_side[:, -1], turned_side[:, 0], turned_side[:, -2], size=9)
    torch.testing.assert_close(again, out[:, 0], atol=1e-6, rtol=1e-4)
    assert len({(a, b) for a, b in turned_side[:, [0, -2]].tolist()}) == 4
    torch.testing.assert_close(side[0, 0], torch.tensor(0.2))  # what was given is left alone


def test_the_seed_decides():
    x = torch.randn(20, 1, 7, 7)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(augment(x, None, ())[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])

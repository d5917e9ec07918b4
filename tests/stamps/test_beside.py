"""What a set has beside its stamps: any size, variances, PSFs, side information."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import all_beside, toy_stamps, write_set

from rb.errors import UserError
from rb.stamps import StampSet, StampSetWriter
from rb.stamps.batch import Stamps
from rb.stamps.inputs import InputSpec
from rb.stamps.layout import SIDE_COLUMNS
from rb.stamps.resumable import ResumableStamps

EVERYTHING = InputSpec(
    ("srch", "tmpl", "diff_var", "tmpl_var"), "depth", size=12, side=("psf", *SIDE_COLUMNS)
)


def rows(n: int, start: int = 0) -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(n) + start, "label": np.arange(n) % 2})


def writer(path: Path, **more: object) -> StampSetWriter:
    return StampSetWriter(path, source="test", parameters={}, **more)  # type: ignore[arg-type]


def some(n: int, size: int = 12, seed: int = 0) -> Stamps:
    return all_beside(toy_stamps(n, seed, size)[0], seed)


def assert_same(found: Stamps, expected: Stamps) -> None:
    assert found.arrays().keys() == expected.arrays().keys()
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)


@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(1, 40),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    data=st.data(),
)
def test_stamps_of_any_size_come_back_with_what_was_beside_them(
    tmp_path_factory, size, sizes, data
):
    path = tmp_path_factory.mktemp("sets") / "set"
    whole = some(sum(sizes), size=5)
    images = np.random.default_rng(size).normal(size=(sum(sizes), 3, size, size))
    with_variance, with_psf = data.draw(st.booleans()), data.draw(st.booleans())
    stamps = Stamps(
        images.astype(np.float32),
        np.square(images).astype(np.float32) if with_variance else None,
        whole.psf if with_psf else None,
        whole.side,
    )
    with writer(path) as out:
        start = 0
        for n in sizes:
            out.append(stamps[start : start + n], rows(n, start))
            start += n
    back = StampSet.open(path)
    back.verify()
    assert back.stamp_size == size
    assert ("variance" in back.arrays, "psf" in back.arrays) == (with_variance, with_psf)
    assert_same(back.read(slice(None)), stamps)
    some_rows = np.array([len(back) - 1, 0])
    assert_same(back.read(some_rows), stamps[some_rows])
    for name in SIDE_COLUMNS:
        np.testing.assert_array_equal(back.catalogue[name], stamps.side[name])


def test_only_what_a_model_wants_is_read(tmp_path):
    s = write_set(tmp_path / "set", 6, size=12, beside=True)
    plain = s.read(np.arange(3), InputSpec(size=12))
    assert (plain.variance, plain.psf, dict(plain.side)) == (None, None, {})
    wanted = s.read(np.arange(3), InputSpec(size=12, side=("sky_noise_tmpl",)))
    assert wanted.psf is None
    np.testing.assert_array_equal(wanted.side["sky_noise_tmpl"], s.catalogue["sky_noise_tmpl"][:3])
    assert "beside    variance, psf" in str(s)
    assert "12x12 px" in str(s)


def test_the_digest_covers_what_is_beside_the_stamps(tmp_path):
    s = write_set(tmp_path / "set", 6, size=12, beside=True)
    assert s.digest != write_set(tmp_path / "plain", 6, size=12).digest
    for name in ("variance", "psf"):
        copy = tmp_path / name
        shutil.copytree(s.path, copy)
        content = bytearray((copy / f"{name}.npy").read_bytes())
        content[-3] ^= 1
        (copy / f"{name}.npy").write_bytes(content)
        with pytest.raises(UserError, match="not what was written"):
            StampSet.open(copy).verify()


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (some(2, size=13), "stamps of 13 px .* came after stamps of 12 px"),
        (Stamps(some(2).images), "stamps of 12 px came after stamps of 12 px and variance"),
        (some(2).images, "have one size and the same arrays|came after"),
        (Stamps(some(2).images, some(2, 13).variance), "came with variances of 13 px"),
        (Stamps(some(2).images, some(3).variance), "2 stamps came with 3 of variance"),
        (Stamps(some(2).images, None, np.ones((2, 2, 4, 4))), "psf have shape .* of odd size"),
        (Stamps(some(2).images, None, np.ones((2, 3, 5, 5))), r"psf have shape \(2, 3, 5, 5\)"),
    ],
)
def test_stamps_that_do_not_fit_together_are_refused(tmp_path, second, message):
    with pytest.raises(UserError, match=message) as error, writer(tmp_path / "set") as out:
        out.append(some(2), rows(2))
        out.append(second, rows(2, 2))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def save(path: Path, array: np.ndarray) -> None:
    np.save(path, array.astype(np.float32))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "psf.npy").unlink(), "psf.npy: missing"),
        (lambda p: save(p / "psf.npy", np.ones((3, 2, 9, 9))), "psf.npy holds 3 stamps"),
        (lambda p: save(p / "psf.npy", np.ones((6, 2, 8, 8))), "expected float32 .* of odd size"),
        (lambda p: save(p / "variance.npy", np.ones((6, 3, 9, 9))), "of 9 px, .* promises 12"),
        (lambda p: np.save(p / "variance.npy", np.ones((6, 3, 12, 12))), "float64 array"),
        (
            lambda p: (p / "variance.npy").write_bytes((p / "variance.npy").read_bytes()[:-9]),
            "variance.npy: truncated",
        ),
        (lambda p: set_meta(p, arrays=["psf"]), "variance.npy: not among the arrays"),
        (lambda p: set_meta(p, stamp_size=51), "stamps of 12 px, meta.json promises 51"),
        (lambda p: set_meta(p, format=1), "format 1, this version reads 2; build the set again"),
    ],
)
def test_half_written_and_mismatching_arrays_are_refused(tmp_path, damage, message):
    path = write_set(tmp_path / "set", 6, size=12, beside=True).path
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        StampSet.open(path)
    assert "\n" not in str(error.value)


def set_meta(path: Path, **changes: object) -> None:
    meta = json.loads((path / "meta.json").read_text()) | changes
    (path / "meta.json").write_text(json.dumps(meta))


def test_parts_that_were_kept_go_on_with_what_is_beside_them(tmp_path):
    whole = some(7)
    first = ResumableStamps(tmp_path / "work")
    first.append(whole[:3], rows(3), {"at": 3})
    first.append(whole[3:5], rows(2, 3), {"at": 5})
    first.close()
    # As after a power cut: the last part is not whole, and behind it lies what nobody knows.
    with (tmp_path / "work" / "psf.npy").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 5)
    second = ResumableStamps(tmp_path / "work")
    assert second.notes == [{"at": 3}]
    with pytest.raises(UserError, match="came after"):
        second.append(whole.images[3:], rows(4, 3), {})
    second.append(whole[3:], rows(4, 3), {"at": 7})
    with writer(tmp_path / "set") as out:
        second.hand_over(out, ("diff", "srch", "tmpl"))
    second.close()
    back = StampSet.open(tmp_path / "set")
    back.verify()
    assert_same(back.read(slice(None)), whole)


# -- what a network gets of it ----------------------------------------------------------------


def test_planes_and_side_information_in_their_order(tmp_path):
    s = write_set(tmp_path / "set", 6, size=12, beside=True)
    spec = InputSpec(
        ("srch", "tmpl_var"),
        "depth",
        {"srch": "raw", "tmpl_var": "raw"},
        size=12,
        side=("sky_noise_srch", "psf", "psf_fwhm_tmpl"),
        psf_size=9,
    )
    spec.check(s)
    stamps = s.read(np.array([4, 2]), spec)
    x, side = spec.tensors(stamps)
    assert x.shape == (2, *spec.shape) == (2, 2, 12, 12)
    np.testing.assert_array_equal(x[:, 0], s.stamps[[4, 2], 1])
    np.testing.assert_array_equal(x[:, 1], s.variance[[4, 2], 2])
    assert side.shape == (2, spec.n_side) == (2, 1 + 2 * 81 + 1)
    catalogue = s.catalogue.iloc[[4, 2]]
    np.testing.assert_allclose(side[:, 0], catalogue["sky_noise_srch"], rtol=1e-6)
    np.testing.assert_array_equal(side[:, 1:-1].reshape(2, 2, 9, 9), s.psf[[4, 2]])
    np.testing.assert_allclose(side[:, -1], catalogue["psf_fwhm_tmpl"], rtol=1e-6)
    assert InputSpec(**spec.to_dict()) == spec


def test_unknown_values_are_finite_for_a_network():
    stamps = some(3)
    stamps.side["zero_point_srch"][1] = np.nan
    stamps.psf[2] = np.nan
    spec = InputSpec(("srch", "srch_var"), size=12, side=("zero_point_srch", "psf"), psf_size=9)
    x, side = spec.tensors(stamps)
    assert np.isfinite(x.numpy()).all() and np.isfinite(side.numpy()).all()
    assert side[1, 0] == 0 and not side[2, 1:].any()


def test_sizes_are_those_of_the_set(tmp_path):
    s = write_set(tmp_path / "set", 6, size=12, beside=True)
    spec = InputSpec.from_config({"channels": ["srch"], "side": ["psf"], "size": None}, s)
    assert (spec.size, spec.psf_size, spec.shape) == (12, 9, (1, 12, 12))
    assert InputSpec.from_config({"channels": ["srch"]}, s).psf_size == 0
    with pytest.raises(UserError, match="takes stamps of 30 px, these have 12"):
        InputSpec.from_config({"channels": ["srch"], "size": 30}, s).check(s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ("srch", "srch_var")}, r"needs variance.npy \(srch_var\)"),
        ({"side": ("psf",)}, r"needs psf.npy \(psf\)"),
        ({"side": ("psf_e1_srch", "sky_noise_tmpl")}, "needs psf_e1_srch, sky_noise_tmpl"),
        ({"size": 51}, "takes stamps of 51 px, these have 12"),
    ],
)
def test_what_a_set_lacks_is_refused_in_one_line(tmp_path, changes, message):
    s = write_set(tmp_path / "set", 6, size=12)
    with pytest.raises(UserError, match=message) as error:
        InputSpec(**({"size": 12} | changes)).check(s)
    assert "\n" not in str(error.value)


def test_psfs_of_another_size_are_refused(tmp_path):
    s = write_set(tmp_path / "set", 6, size=12, beside=True)
    with pytest.raises(UserError, match="PSFs of 25 px, these have 9"):
        InputSpec(size=12, side=("psf",), psf_size=25).check(s)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"side": ("seeing",)}, "model.inputs.side is"),
        ({"side": ("psf", "psf")}, "each once"),
        ({"size": 0}, "model.inputs.size is 0"),
        ({"size": "big"}, "model.inputs.size is 'big'"),
    ],
)
def test_impossible_inputs(changes, message):
    with pytest.raises(UserError, match=message):
        InputSpec(**changes)


def test_bare_pixels_do_not_feed_a_network_that_wants_more():
    for changes in ({"channels": ("srch", "srch_var")}, {"side": ("psf",), "psf_size": 9}):
        with pytest.raises(UserError, match="the model takes .* but the stamps came without"):
            InputSpec(size=12, **changes).tensors(some(2).images)


# -- arrays as others make them ---------------------------------------------------------------


def masked(dtype: str) -> np.ma.MaskedArray:
    values = np.arange(2 * 3 * 7 * 7).reshape(2, 3, 7, 7).astype(dtype)
    mask = np.zeros(values.shape, bool)
    mask[0, 1, 2, 3] = mask[1, 2] = True
    return np.ma.masked_array(values, mask)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<i4"])
def test_masked_pixels_are_nan_in_a_set(tmp_path, dtype):
    stamps = masked(dtype)
    with writer(tmp_path / "set") as out:
        out.append(stamps, rows(2))
    kept = ResumableStamps(tmp_path / "work")
    kept.append(stamps, rows(2), {})
    with writer(tmp_path / "resumed") as out:
        kept.hand_over(out, ("diff", "srch", "tmpl"))
    for name in ("set", "resumed"):
        s = StampSet.open(tmp_path / name)
        np.testing.assert_array_equal(s[:], stamps.astype("f4").filled(np.nan))
        assert s.meta["n_nan_pixels"] == 1 + 49


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<i4"])
def test_masked_and_foreign_arrays_are_prepared_as_their_plain_twins(dtype):
    stamps = masked(dtype)
    plain = stamps.astype("f4").filled(np.nan)
    spec = InputSpec(size=7)
    np.testing.assert_array_equal(spec.prepare(stamps), spec.prepare(plain))


def test_true_and_false_are_no_labels(tmp_path):
    for labels in ([True, False], [None, True], pd.array([True, None], "boolean")):
        table = pd.DataFrame({"id": [4, 5], "label": labels})
        with (
            pytest.raises(UserError, match=r"has label 'True'; labels are 0 \(real\)"),
            writer(tmp_path / "set") as out,
        ):
            out.append(some(2), table)

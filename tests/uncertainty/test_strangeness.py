"""What is unlike the examples is said, with the nearest of them; the rest is left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from exported import exported
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy_stamps, write_set

from rb.cli import main
from rb.errors import UserError
from rb.uncertainty.strangeness import Reference


def blobs(n: int, seed: int = 0, width: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return (rng.normal(size=(n, width)) + 6 * labels[:, None]).astype(np.float32), labels


def reference(n: int = 400) -> Reference:
    x, labels = blobs(n)
    kinds = np.where(labels == 0, "sn", "cosmic_ray")
    return Reference.of(x, labels, kinds, {"model": "some"})


def test_one_in_a_hundred_of_the_like_and_all_of_the_unlike():
    made = reference()
    alike, labels = blobs(2000, seed=1)
    far = made.compare(alike)[0]
    assert 0.002 < (far > 1).mean() < 0.03
    assert (made.compare(alike + 40)[0] > 1).all()
    assert (made.compare(np.full((1, 8), 3, np.float32))[0] > 1).all()  # between the two blobs
    assert np.isinf(made.compare(np.full((2, 8), np.nan, np.float32))[0]).all()
    said = made.compare(alike[:50])[1]
    right = ["10 real sn" if label == 0 else "10 bogus cosmic_ray" for label in labels[:50]]
    assert np.mean([a == b for a, b in zip(said, right, strict=True)]) > 0.95


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 10), st.integers(0, 5))
def test_units_and_order_of_the_layer_do_not_matter(factor, seed):
    x, labels = blobs(200)
    order = np.random.default_rng(seed).permutation(8)
    other = np.float32(factor) * x[:, order]
    one = Reference.of(x, labels, np.full(200, ""), {})
    two = Reference.of(other, labels, np.full(200, ""), {})
    new, _ = blobs(50, seed=9)
    np.testing.assert_allclose(
        one.compare(new)[0], two.compare(np.float32(factor) * new[:, order])[0], rtol=0.03
    )


def test_kept_and_read_again(tmp_path):
    made = reference()
    made.save(tmp_path / "reference.npz")
    again = Reference.load(tmp_path / "reference.npz")
    new, _ = blobs(30, seed=3)
    np.testing.assert_allclose(made.compare(new)[0], again.compare(new)[0], rtol=1e-6)
    assert made.compare(new)[1] == again.compare(new)[1] and made.about == again.about
    content = (tmp_path / "reference.npz").read_bytes()
    for cut in (0, 10, len(content) // 2):
        (tmp_path / "cut.npz").write_bytes(content[:cut])
        with pytest.raises(UserError, match="damaged, or not written by"):
            Reference.load(tmp_path / "cut.npz")
    np.savez(tmp_path / "cut.npz", embeddings=np.array([{}], dtype=object))
    with pytest.raises(UserError, match="damaged, or not written by"):
        Reference.load(tmp_path / "cut.npz")
    with pytest.raises(UserError, match="20 labelled examples is too small"):
        Reference.of(*blobs(20), np.full(20, ""), {})


def test_from_a_set_to_tags(tmp_path, capsys):
    write_set(tmp_path / "set", 120)
    checkpoint, file = exported()
    kept = tmp_path / "reference.npz"
    assert main(["reference", str(tmp_path / "set"), "--model", str(file), "--out", str(kept)]) == 0
    assert "120 examples of toy survey as" in capsys.readouterr().out
    stamps, _ = toy_stamps(40, seed=5)
    stamps[3] = np.random.default_rng(0).normal(size=stamps[3].shape) ** 5
    np.save(tmp_path / "stack.npy", stamps)
    tables = []
    for model in (file, checkpoint):  # the weights are the same, in either file
        out = tmp_path / f"{model.suffix[1:]}.parquet"
        words = ["score", str(tmp_path / "stack.npy"), "--model", str(model), "--out", str(out)]
        assert main([*words, "--quiet", "--reference", str(kept)]) == 0
        tables.append(pd.read_parquet(out))
    np.testing.assert_allclose(tables[0]["strangeness"], tables[1]["strangeness"], rtol=1e-2)
    for table in tables:
        assert ((table["strangeness"] > 1) == table["tags"].str.contains("unlike")).all()
        assert (
            table["strangeness"].idxmax() == 3 and table["nearest"].str.contains("real|bogus").all()
        )
    other = exported(("srch", "tmpl"))[1]
    capsys.readouterr()
    words = [
        "score",
        str(tmp_path / "stack.npy"),
        "--model",
        str(other),
        "--out",
        str(tmp_path / "x.csv"),
    ]
    assert main([*words, "--quiet", "--reference", str(kept)]) == 2
    assert "which has other weights than" in capsys.readouterr().err

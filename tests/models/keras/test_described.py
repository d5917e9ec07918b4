"""Keras networks whose files do not say how they are fed, or what 1 means."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras_files as kf
import numpy as np
import pytest
import yaml

import rb
from rb.errors import UserError
from rb.models.keras.network import KerasSequential, load_keras
from rb.sources.alerts.source import open_stamps

SHAPE = (63, 63, 3)
SAID = {"channels": ["srch", "tmpl", "diff"], "scaling": "l2", "label_1": "real"}


def sigmoid_stack() -> list[dict]:
    return [
        kf.conv("conv", 2, activation="relu"),
        kf.layer("MaxPooling2D", "pool", pool_size=[4, 4], strides=[4, 4], padding="valid"),
        kf.layer("Flatten", "flatten", data_format="channels_last"),
        kf.dense("out", 1, activation="sigmoid"),
    ]


@pytest.fixture
def braai_like(tmp_path: Path) -> tuple[Path, dict]:
    weights = kf.random_weights(sigmoid_stack(), SHAPE)
    weights["out"]["kernel"] *= 0.1
    return kf.write(tmp_path / "b.h5", sigmoid_stack(), SHAPE, weights), weights


def stamps(n: int = 4) -> np.ndarray:
    found = np.random.default_rng(1).normal(3, 1, (n, 3, 63, 63)).astype("f4")
    found[0, 0, :3] = np.nan
    return found


def expected(weights: dict) -> np.ndarray:
    x = np.nan_to_num(stamps().astype("f8"))[:, [1, 2, 0]]
    x /= np.linalg.norm(x, axis=(2, 3), keepdims=True)
    return kf.forward(sigmoid_stack(), weights, np.moveaxis(x, 1, 3))[:, 0]


@pytest.mark.parametrize("meaning", ["real", "bogus"])
def test_one_sigmoid_with_inputs_as_said(braai_like: tuple[Path, dict], meaning: str) -> None:
    path, weights = braai_like
    one = expected(weights)
    scorer = rb.load(path, inputs=SAID | {"label_1": meaning})
    right = one if meaning == "real" else 1 - one
    np.testing.assert_allclose(scorer.p_real(stamps()), right, atol=1e-5)
    assert scorer.inputs.channels == ("srch", "tmpl", "diff")


def test_a_file_beside_it_says_the_same(braai_like: tuple[Path, dict]) -> None:
    path, weights = braai_like
    said = SAID | {"threshold": 0.7, "licence": "MIT"}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(said))
    scorer = rb.load(path)
    np.testing.assert_allclose(scorer.p_real(stamps()), expected(weights), atol=1e-5)
    assert scorer.threshold == 0.7 and scorer.provenance.licence == "MIT"
    # The meaning travels with the configuration, into checkpoints.
    again = KerasSequential(load_keras(path).config)
    assert again.network[-1].one_is_real


def test_two_classes_whose_label_1_is_real(tmp_path: Path) -> None:
    layers = kf.small_stack()
    shape = (51, 51, 2)
    path = kf.write(tmp_path / "m.h5", layers, shape, kf.random_weights(layers, shape))
    some = np.random.default_rng(1).normal(3, 1, (4, 3, 51, 51)).astype("f4")
    as_here = rb.load(path).p_real(some)
    turned = rb.load(path, inputs={"label_1": "real"}).p_real(some)
    np.testing.assert_allclose(turned, 1 - as_here, atol=1e-6)


def test_names_with_slashes(tmp_path: Path) -> None:
    layers = json.loads(json.dumps(kf.small_stack()).replace('"conv2d"', '"block_1/conv2d"'))
    shape = (51, 51, 2)
    weights = kf.random_weights(layers, shape)
    plain = kf.write(tmp_path / "p.h5", kf.small_stack(), shape, weights | {"conv2d": weights["block_1/conv2d"]})  # fmt: skip  # noqa: E501
    some = np.random.default_rng(1).normal(3, 1, (4, 3, 51, 51)).astype("f4")
    found = rb.load(kf.write(tmp_path / "m.h5", layers, shape, weights)).p_real(some)
    np.testing.assert_array_equal(found, rb.load(plain).p_real(some))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "ends in one sigmoid, and nothing says what its 1 means; write label_1: real"),
        ({"label_1": "yes"}, "b.yaml.label_1 is 'yes'; give real or bogus, or null"),
        ({"chanels": []}, "b.yaml.chanels: no such setting"),
        (SAID | {"channels": ["srch", "tmpl"]}, "takes 63x63x3, not srch, tmpl"),
        (SAID | {"scaling": "l3"}, "b.yaml.scaling.diff is 'l3'"),
    ],
)
def test_what_is_refused(braai_like: tuple[Path, dict], said: dict, message: str) -> None:
    path, _ = braai_like
    path.with_suffix(".yaml").write_text(yaml.safe_dump(said))
    with pytest.raises(UserError) as error:
        rb.load(path)
    assert message in str(error.value)


def test_inputs_are_for_keras_files(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").touch()
    with pytest.raises(UserError, match="says itself how it is fed"):
        rb.load(tmp_path / "m.ckpt", inputs=SAID)


def test_a_network_of_ztf_beside_its_own_score(shared_data: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(shared_data / "peers" / "braai_d6_m9.h5", tmp_path / "braai.h5"))
    file.with_suffix(".yaml").write_text(yaml.safe_dump(SAID))
    alerts = shared_data / "alerts" / "ztf"
    stamps = open_stamps(
        {"root": str(alerts), "cache": str(tmp_path), "stamp_size": 63}, progress=False
    )
    difference = np.abs(rb.load(file).score(stamps) - stamps.catalogue["drb"])
    # drb is of the version before it.
    assert difference.median() < 0.011 and difference.max() < 0.02

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rb.errors import UserError
from rb.evaluation.cross_validation import crossvalidate, operating_points
from rb.features import ALL_38, FEATURES_FROM_STAMP, PIXEL_FEATURES
from rb.features.autoscan import compute
from rb.features.derived import with_derived
from rb.features.table import FeatureTable, read_table
from rb.models.contract import Provenance
from rb.models.forest import files as forest_files
from rb.models.forest.files import load_forest, save_forest
from rb.models.forest.learners import LEARNERS, AutoscanForest
from rb.models.forest.scorer import ForestScorer

REAL = "autoscan/autoscan_features_10000rows.csv"
FEW = ("SNR", "NUMNEGRN", "MAG_REF", "ELLIPTICITY", "AMP")


def make_table(n: int = 400, seed: int = 0, features=FEW) -> FeatureTable:
    """Two classes that differ in the first two features, and in whether the third is missing."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2).astype(np.int8)
    values = rng.normal(0, 1, (n, len(features)))
    values[:, 0] += 2.0 * labels
    values[:, 1] -= 1.0 * labels
    values[rng.random(n) < 0.1 + 0.5 * labels, 2] = np.nan
    ids = np.arange(n) + 1000
    return FeatureTable(ids, labels, pd.DataFrame(values, columns=list(features)), "made.csv")


@pytest.fixture(scope="module")
def table() -> FeatureTable:
    return make_table()


@pytest.fixture(scope="module")
def real(shared_data: Path) -> FeatureTable:
    return read_table(shared_data / REAL)


def save(model: AutoscanForest, path: Path) -> Path:
    return save_forest(ForestScorer(model), path)


def load(path: Path) -> AutoscanForest:
    return load_forest(path).forest


# -- learning and predicting -----------------------------------------------------------------


@pytest.mark.parametrize("learner", ["forest", "boosting"])
def test_it_learns_and_says_how_probable_real_is(table, learner):
    model = AutoscanForest(learner, FEW).fit(table)
    unseen = make_table(300, seed=1)
    p_real = model.predict(unseen)
    assert p_real.shape == (300,)
    assert ((p_real < 0.5) == unseen.labels).mean() > 0.85
    assert p_real[unseen.labels == 0].mean() > 0.7 > 0.3 > p_real[unseen.labels == 1].mean()
    assert model.trained_on == table.digest


@pytest.mark.parametrize("learner", ["forest", "boosting"])
def test_missing_values_inform(learner):
    """Only whether a value is missing tells the classes apart here, not what it is."""
    rng = np.random.default_rng(3)
    labels = (np.arange(400) % 2).astype(np.int8)
    value = np.where(rng.random(400) < 0.05 + 0.9 * labels, np.nan, rng.normal(0, 1, 400))
    one = FeatureTable(np.arange(400), labels, pd.DataFrame({"MAG_REF": value}))
    model = AutoscanForest(learner, ["MAG_REF"]).fit(one)
    present, absent = model.predict(pd.DataFrame({"MAG_REF": [0.01, np.nan]}))
    assert present > 0.7
    assert absent < 0.15


@pytest.mark.slow
def test_the_tuned_learner_chooses_and_averages(table, tmp_path):
    model = AutoscanForest("boosting_tuned", FEW).fit(table)
    assert len(model.members) == 3
    assert len({m.max_leaf_nodes for m in model.members}) == 1
    unseen = make_table(300, seed=1)
    p_real = model.predict(unseen)
    assert ((p_real < 0.5) == unseen.labels).mean() > 0.85
    again = load(save(model, tmp_path / "forest.rb"))
    np.testing.assert_array_equal(again.predict(unseen), p_real)


def test_seeds_decide(table):
    first, again, other = (
        AutoscanForest("forest", FEW, seed).fit(table).predict(table) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_order_of_columns_does_not_matter(table):
    model = AutoscanForest("forest", FEW).fit(table)
    turned = table.features[list(reversed(FEW))].assign(MORE=1.0)
    np.testing.assert_array_equal(model.predict(turned), model.predict(table))


def test_values_beyond_single_precision(table):
    model = AutoscanForest("forest", FEW).fit(table)
    frame = table.features.head(3).copy()
    frame.loc[0, "SNR"], frame.loc[1, "SNR"], frame.loc[2, "SNR"] = 1e300, np.inf, -np.inf
    p_real = model.predict(frame)
    assert np.isfinite(p_real).all()
    assert p_real[0] == model.predict(table.features.head(1).assign(SNR=1e30))[0]


def test_unlabelled_rows_teach_nothing(table):
    labels = table.labels.copy()
    labels[:100] = -1
    partly = FeatureTable(table.ids, labels, table.features)
    expected = AutoscanForest("forest", FEW).fit(table.take(np.arange(100, 400)))
    found = AutoscanForest("forest", FEW).fit(partly)
    np.testing.assert_array_equal(found.predict(table), expected.predict(table))


def test_what_it_refuses(table):
    with pytest.raises(UserError, match="no learner 'oracle'"):
        AutoscanForest("oracle")
    with pytest.raises(UserError, match="without features"):
        AutoscanForest(features=[])
    with pytest.raises(UserError, match="not trained yet"):
        AutoscanForest(features=FEW).predict(table)
    with pytest.raises(UserError, match=r"made.csv: no feature AMP, A_IMAGE"):
        AutoscanForest(features=["SNR", "AMP", "A_IMAGE"]).fit(table.restricted(["SNR"]))
    with pytest.raises(UserError, match="no bogus candidate"):
        AutoscanForest(features=FEW).fit(table.take(table.labels == 0))
    assert len(AutoscanForest("forest", FEW).fit(table).predict(table.take(np.arange(0)))) == 0


def test_derived_features_need_their_ingredients():
    frame = pd.DataFrame({"SNR": [2.0, 0.0], "DIFFSUMRN": [6.0, 1.0], "N2SIG5": [1.0, np.nan]})
    more = with_derived(frame)
    assert list(more.columns) == [*frame.columns, "SUM_PER_SNR", "NEGATIVE_PER_SNR"]
    np.testing.assert_array_equal(more["SUM_PER_SNR"], [3.0, np.nan])


# -- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["forest", "boosting"])
def test_files_keep_the_forest(table, tmp_path, learner):
    model = AutoscanForest(learner, FEW, seed=4).fit(table)
    whole = ForestScorer(model, "stamps", 0.4, Provenance("few", licence="CC0"))
    path = save_forest(whole, tmp_path / "new" / "forest.rb")
    loaded = load_forest(path)
    assert (loaded.features_from, loaded.threshold) == ("stamps", 0.4)
    assert loaded.provenance == whole.provenance
    again = loaded.forest
    np.testing.assert_array_equal(again.predict(table), model.predict(table))
    assert again.features == FEW
    assert (again.learner, again.seed, again.trained_on) == (learner, 4, table.digest)
    assert [p.name for p in path.parent.iterdir()] == ["forest.rb"]
    assert b"cnumpy" not in path.read_bytes()  # no pickle anywhere


def rewrite(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("__", "."): data for name, data in entries.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.fixture
def saved(table, tmp_path) -> Path:
    return save(AutoscanForest("forest", FEW).fit(table), tmp_path / "forest.rb")


def refused(path: Path, match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_refused(saved, tmp_path):
    refused(tmp_path / "none.rb", "no such file")
    (tmp_path / "text.rb").write_text("trees")
    refused(tmp_path / "text.rb", "damaged, or not a saved autoscan forest")
    with zipfile.ZipFile(tmp_path / "zip.rb", "w") as archive:
        archive.writestr("readme", "x")
    refused(tmp_path / "zip.rb", "not a saved autoscan forest")
    meta = json.loads(zipfile.ZipFile(saved).read("forest.json"))
    for change, match in [
        ({"scikit_learn": "0.1"}, "saved with scikit-learn 0.1, this is .* train the forest again"),
        ({"format": 1}, "of format 2; train it again"),
        ({"learner": "oracle"}, "unknown learner"),
        ({"features": "SNR"}, "makes no sense"),
        ({"features_from": "hearsay"}, "makes no sense"),
        ({"threshold": 2}, "makes no sense"),
        ({"provenance": None}, "makes no sense"),
        ({"provenance": {"name": {}}}, "makes no sense"),
        ({"members": 10**9}, "makes no sense"),
        ({"members": 2}, "damaged"),
        ({"features": ["SNR"]}, "other classes or features"),
    ]:
        rewrite(saved, forest__json=json.dumps(meta | change).encode())
        refused(saved, match)
    rewrite(saved, forest__json=b"{")
    refused(saved, "damaged")


def test_an_unwritable_place(table, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save(AutoscanForest("boosting", FEW).fit(table), tmp_path / "file" / "forest.rb")
    with pytest.raises(UserError, match="not trained yet"):
        save(AutoscanForest(), tmp_path / "forest.rb")


def test_pickles_and_other_objects_are_not_loaded(saved):
    import pickle

    import skops.io
    from sklearn.linear_model import LogisticRegression

    rewrite(saved, member_0__skops=pickle.dumps(print))
    refused(saved, "not to be trusted")
    fitted = LogisticRegression().fit(np.eye(4, 5), [0, 1, 0, 1])
    rewrite(saved, member_0__skops=skops.io.dumps(fitted))
    refused(saved, "not a forest")


@pytest.mark.parametrize("learner", ["forest", "boosting"])
def test_trees_that_lead_out_of_themselves_are_not_walked(table, tmp_path, learner):
    """scikit-learn follows node numbers unchecked: such a file could read any memory."""
    columns = len(FEW)

    def spoiled(field: str, value: int) -> None:
        model = AutoscanForest(learner, FEW).fit(table)
        member = model.members[0]
        if learner == "forest":
            tree = member.estimators_[0].tree_
            # A view of the tree's own memory, as a file would fill it.
            name = {"left": "children_left", "right": "children_right"}.get(field, "feature")
            getattr(tree, name).setflags(write=True)
            getattr(tree, name)[0] = value
        else:
            nodes = member._predictors[0][0].nodes
            nodes[{"feature": "feature_idx"}.get(field, field)][0] = value
        with pytest.raises(UserError, match="not to be trusted"):
            load(save(model, tmp_path / "spoiled.rb"))

    spoiled("left", 10**6)
    spoiled("right", 0)
    spoiled("feature", columns)


def test_flipped_bytes_never_pass_unnoticed(saved, table):
    model = load(saved)
    expected = model.predict(table)
    data = saved.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(40):
        copy = bytearray(data)
        if rng.random() < 0.2:
            copy = copy[: rng.integers(len(copy))]
        else:
            copy[rng.integers(len(copy))] ^= 1 << rng.integers(8)
        saved.write_bytes(copy)
        try:
            again = load(saved)
        except UserError as error:
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(again.predict(table), expected)


def test_an_interrupted_save_leaves_nothing(table, tmp_path, monkeypatch):
    import skops.io

    model = AutoscanForest("forest", FEW).fit(table)
    path = save(model, tmp_path / "forest.rb")
    before = path.read_bytes()

    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(skops.io, "dumps", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["forest.rb"]
    assert forest_files._FORMAT == 2


# -- evaluation ------------------------------------------------------------------------------


def test_every_row_is_scored_by_a_forest_that_never_saw_it(table):
    done: list[tuple[int, int]] = []
    found = crossvalidate(table, "boosting", 4, 1, FEW, progress=lambda *a: done.append(a))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert np.bincount(found.fold).tolist() == [100] * 4
    for k in range(4):
        held = found.fold == k
        assert found.table.labels[held].mean() == 0.5
        model = AutoscanForest("boosting", FEW, 1).fit(table.take(~held))
        np.testing.assert_array_equal(model.predict(table.take(held)), found.p_real[held])
    metrics = found.metrics()
    accuracy = ((found.p_real < 0.5) == table.labels).mean()
    assert metrics["accuracy"].value == accuracy
    assert metrics["accuracy"].low < accuracy < metrics["accuracy"].high
    folds = found.per_fold()
    assert folds["accuracy"].mean() == pytest.approx(accuracy)
    assert folds["n"].tolist() == [100] * 4


def test_random_labels_cannot_be_learned(table):
    """A leak between training and held-out rows would show here."""
    labels = np.random.default_rng(5).permutation(table.labels)
    found = crossvalidate(FeatureTable(table.ids, labels, table.features), "forest", 5, 0, FEW)
    auc = found.metrics()["auc"]
    assert auc.low < 0.5 < auc.high


def test_unlabelled_rows_are_left_out_of_the_folds(table):
    labels = table.labels.copy()
    labels[:50] = -1
    found = crossvalidate(FeatureTable(table.ids, labels, table.features), "boosting", 3, 0, FEW)
    np.testing.assert_array_equal(found.table.ids, table.ids[50:])
    assert len(found.p_real) == 350


@pytest.mark.parametrize("folds", [1, 300])
def test_impossible_folds(table, folds):
    with pytest.raises(UserError, match="folds need"):
        crossvalidate(table, "forest", folds, 0, FEW)


def test_importances_rank_what_matters(table):
    found = crossvalidate(table, "boosting", 3, 0, FEW, repeats=2).importance
    assert list(found["feature"][:1]) == ["SNR"]
    assert set(found["feature"][:3]) == {"SNR", "NUMNEGRN", "MAG_REF"}
    useless = found.set_index("feature").loc[["ELLIPTICITY", "AMP"]]
    assert (useless["auc_loss"].abs() < 0.01).all()
    assert (found["auc_loss_error"] > 0).all()
    assert found["accuracy_loss"][0] > 0.05


def test_operating_points():
    labels = np.repeat([0, 1], 100)
    p_real = np.concatenate([np.linspace(0.2, 0.998, 100), np.linspace(0.002, 0.8, 100)])
    points = operating_points(labels, p_real, [0.5], [0.01, 0.1]).set_index("chosen_by")
    half = points.loc["threshold 0.5"]
    assert half["mdr"] == (p_real[:100] < 0.5).mean()
    assert half["fpr"] == (p_real[100:] >= 0.5).mean()
    assert half["mdr_low"] < half["mdr"] < half["mdr_high"]
    for name, column, rate in [
        ("MDR <= 0.01", "mdr", 0.01),
        ("MDR <= 0.1", "mdr", 0.1),
        ("FPR <= 0.01", "fpr", 0.01),
        ("FPR <= 0.1", "fpr", 0.1),
    ]:
        assert points.loc[name, column] == pytest.approx(rate)
        other = {"mdr": "fpr", "fpr": "mdr"}[column]
        cut = points.loc[name, "threshold"]
        assert points.loc[name, other] == (
            (p_real[100:] >= cut).mean() if other == "fpr" else (p_real[:100] < cut).mean()
        )
    unknown = operating_points(np.append(labels, -1), np.append(p_real, 0.5), [0.5], [0.01])
    assert unknown["mdr"][0] == half["mdr"]
    with pytest.raises(UserError, match="real and bogus"):
        operating_points(labels[:100], p_real[:100])


def test_tied_scores_never_exceed_the_promised_rate():
    labels = np.repeat([0, 1], 50)
    points = operating_points(labels, np.round(np.linspace(0, 1, 100), 1)[::-1], [0.5], [0.05])
    assert (points["mdr"][1] <= 0.05) and (points["fpr"][2] <= 0.05)
    constant = operating_points(labels, np.full(100, 0.5), [0.5], [0.05])
    assert (constant["mdr"][1] <= 0.05) and (constant["fpr"][2] <= 0.05)


# -- the survey's rows -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_papers_forest_on_real_rows(real):
    found = crossvalidate(real, "forest", 5, 0)
    metrics = found.metrics()
    assert metrics["accuracy"].value >= 0.953
    assert metrics["auc"].value >= 0.987


def test_a_forest_of_stamp_features_scores_stamps(real):
    model = AutoscanForest(features=PIXEL_FEATURES).fit(real)
    y, x = np.mgrid[:51, :51] - 25.0
    rng = np.random.default_rng(0)
    stamps = rng.normal(0, 10, (40, 3, 51, 51))
    blob = 160 * np.exp(-(x**2 + y**2) / (2 * 1.9**2))
    host = 300 * np.exp(-np.hypot(x, y) / 5)
    stamps[:20, :2] += blob
    stamps[20:, :2] += np.roll(blob, 2, 1) - np.roll(blob, -1, 1)
    stamps[:, 1:] += host
    p_real = model.predict(compute(stamps))
    assert p_real[:20].mean() > 0.7
    assert p_real[20:].mean() < 0.3
    assert set(PIXEL_FEATURES) < set(FEATURES_FROM_STAMP) < set(ALL_38)
    assert set(LEARNERS) == {"forest", "boosting", "boosting_tuned"}

"""The study of perturbed stamps, on a tiny network."""

from __future__ import annotations

import numpy as np
import pytest
from composing import composed, quiet, tracking_of, train_tiny
from toys import write_set

from rb.errors import UserError
from rb.evaluation.perturbations import PERTURBATIONS
from rb.figures.studies.stress import stress_figure
from rb.studies.stress import sections


@pytest.mark.slow
def test_every_perturbation_stands_beside_the_undisturbed(tmp_path):
    write_set(tmp_path / "set", 60)
    train_tiny(tmp_path, "nodia", "trainer.max_epochs=1")
    config = composed("evaluate", "study=stress", f"paths.root={tmp_path}", "subset=all")
    scores, done = sections(config, tracking_of(tmp_path), quiet())
    (table,) = scores.tables.values()
    table = table.set_index("perturbation")
    assert list(table.index) == ["undisturbed", *PERTURBATIONS]
    assert (table["candidates"] == 60).all()
    assert table.loc["undisturbed", ["median shift", "changed side"]].tolist() == [0, 0]
    # It does not look at the difference, and its scalings take units out.
    for name in ("wrong sign", "other unit", "template's unit"):
        assert table.loc[name, "changed side"] == 0
        assert abs(table.loc[name, "median shift"]) < 1e-3
    assert table.loc["empty", "p_real 5 %"] == table.loc["empty", "95 %"]
    assert done.tables["Perturbations"]["perturbation"].tolist() == list(PERTURBATIONS)
    few = composed(
        "evaluate", "study=stress", f"paths.root={tmp_path}", "study.candidates=7",
        "study.perturbations=[empty]", "subset=all",
    )  # fmt: skip
    (table,) = sections(few, tracking_of(tmp_path), quiet())[0].tables.values()
    assert table["candidates"].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("study.perturbations=[emty]", r"study.perturbations\[0\] is 'emty'"),
        ("study.candidates=0", "study.candidates is 0"),
        ("study.strength.fwhm=-1", "study.strength.fwhm is -1"),
    ],
)
def test_wrong_settings(tmp_path, setting, message):
    config = composed("evaluate", "study=stress", f"paths.root={tmp_path}", setting)
    with pytest.raises(UserError, match=message):
        sections(config, tracking_of(tmp_path), quiet())


def test_the_picture_has_a_line_a_perturbation():
    scores = {"undisturbed": np.linspace(0, 1, 5), "empty": np.full(5, 0.3)}
    figure = stress_figure({"dia": scores, "nodia": scores}, {"dia": 0.5, "nodia": 0.4})
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["undisturbed", "empty"]

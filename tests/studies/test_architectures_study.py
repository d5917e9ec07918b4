"""The paper's tables of layers and Figure 4, made from the configurations."""

from __future__ import annotations

import pytest

from rb.errors import UserError
from rb.figures.studies.architecture import architecture_figure
from rb.models.backbones import BackboneCNN
from rb.models.describe import describe
from rb.studies.architectures import layers_of, sections


def study(**changes):
    chosen = {"models": ["dia", "nodia", "nodia_table8"], "drawn": ["dia", "nodia"]} | changes
    return sections({"study": chosen}, None, None)


def test_table_4_is_told_as_in_the_paper():
    tables = study()[2].tables
    table = next(t for title, t in tables.items() if title.startswith("Table 4"))
    assert table["Type"].tolist() == [
        "Conv2D", "MaxPooling", "Conv2D", "MaxPooling", "Dropout", "Conv2D", "MaxPooling",
        "Dropout", "Flatten", "Dense", "Dense",
    ]  # fmt: skip
    assert table["Filters"].tolist() == ["1", "–", "16", "–", "–", "32", "–", "–", "–", "32", "2"]
    assert table["Size"].tolist()[:5] == ["(7,7)", "(2,2)", "(3,3)", "(2,2)", "0.4"]
    assert table["Activation"].tolist()[-2:] == ["relu", "softmax"]
    assert table["Weights"].sum() == 45_908


def test_table_2_is_compared_with_the_trainer():
    table = study()[1].tables["Table 2"].set_index("")
    assert table.loc["Learning rate", "trainer=paper"] == "0.01"
    assert "100 epochs" in table.loc["Stop training", "trainer=paper"]


def test_the_picture_names_the_shape_after_every_layer():
    shape, layers = layers_of("dia")
    figure = architecture_figure({"DIA": (shape, layers)})
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert "51×153" in texts and "16@\n47×149" in texts and "64@\n2×15" in texts
    assert sum("dropout 0.4" in t for t in texts) == 3


def test_an_architecture_of_its_own_is_one_row():
    rows = describe(BackboneCNN((3, 51, 51), "vgg16"), (3, 51, 51))
    assert [r.kind for r in rows] == [
        "convolutions of vgg16", "Dropout", "Flatten", "Dense", "Dense",
    ]  # fmt: skip
    assert rows[0].parameters == 14_714_688 and rows[0].output == (512, 1, 1)


def test_describing_leaves_the_network_as_it_was():
    network = BackboneCNN((3, 51, 51), "vgg16").train()
    describe(network, (3, 51, 51))
    assert network.training
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing", "there is no model 'nothing'; have .*dia"), ("keras", "no network of its own")],
)
def test_models_that_cannot_be_described_are_named(name, message):
    with pytest.raises(UserError, match=message):
        study(models=[name])

"""The networks: Tables 2 to 9 and Figure 4 of the paper, from the configurations themselves."""

from __future__ import annotations

from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from rb.config import project_root
from rb.errors import UserError
from rb.models.build import build_network
from rb.models.describe import Layer, describe
from rb.paper.values import TABLE_2
from rb.report.sections import Picture, Section
from rb.stamps.inputs import InputSpec
from rb.tracking import Tracking

# What each network is in the paper.
_TABLES = {
    "dia": "Table 3: the DIA-based network",
    "nodia": "Table 4: the noDIA-based network",
    "vgg16": "Table 5: VGG16",
    "resnet50v2": "Table 5: ResNet50-V2",
    "nodia_table6": "Table 6: more dense layers",
    "nodia_table7": "Table 7: many more dense layers",
    "nodia_table8": "Table 8: more convolutions",
    "nodia_table9": "Table 9: more convolutions and dense layers",
    "dia_depth": "Section 3.1: DIA, images in depth",
    "nodia_depth": "Appendix A.2: noDIA, images in depth",
}


def sections(config: dict[str, Any], tracking: Tracking, console: Console) -> list[Section]:
    """Layers of the networks in ``conf/model`` that ``study.models`` names, and Figure 4.

    Raises
    ------
    UserError
        If there is no such model, or it has no network of its own.
    """
    from rb.figures.studies.architecture import architecture_figure

    described = {}
    missing = []
    for name in config["study"]["models"]:
        try:
            described[name] = layers_of(name)
        except UserError as error:
            if "timm" not in str(error):
                raise
            missing.append(str(error))
    drawn = {
        f"{_TABLES.get(name, name)}, {_weights(layers)} weights": (shape, layers)
        for name, (shape, layers) in described.items()
        if name in config["study"]["drawn"]
    }
    pictures = (
        [Picture("figure4", architecture_figure(drawn), "Layers to scale, as in Figure 4.")]
        if drawn
        else []
    )
    return [
        Section("architectures", "Figure 4: the networks", missing, pictures),
        Section("compilation", "Table 2: training", (), (), {"Table 2": _compilation()}),
        Section(
            "layers",
            "Tables 3 to 9: layers",
            ["Shapes and weights are those of the networks as they are built."],
            (),
            {
                f"{_TABLES.get(name, name)} (model={name}), {_weights(layers)} weights": _table(
                    layers
                )
                for name, (_, layers) in described.items()
            },
        ),
    ]


def layers_of(model: str) -> tuple[tuple[int, ...], list[Layer]]:
    """Input shape and layers of the network in ``conf/model/<model>.yaml``.

    Raises
    ------
    UserError
        If there is no such file, or it describes no network.
    """
    file = project_root() / "conf" / "model" / f"{model}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in file.parent.glob("*.yaml")))
        raise UserError(f"study.models: there is no model '{model}'; have {known}")
    with initialize_config_dir(str(file.parent.parent), version_base="1.3"):
        config = OmegaConf.to_container(compose(overrides=[f"+model={model}"]).model)
    assert isinstance(config, dict)
    if not config.get("network"):
        raise UserError(f"study.models: model '{model}' has no network of its own to describe")
    inputs = InputSpec(**config["inputs"])
    return inputs.shape, describe(build_network(config["network"], inputs), inputs.shape)


def _weights(layers: list[Layer]) -> str:
    return f"{sum(row.parameters for row in layers):,}"


def _table(layers: list[Layer]) -> pd.DataFrame:
    def size(row: Layer) -> str:
        if isinstance(row.size, tuple):
            return f"({','.join(map(str, row.size))})"
        return "–" if row.size is None else f"{row.size:g}"

    return pd.DataFrame(
        {
            "Type": [row.kind for row in layers],
            "Filters": ["–" if row.filters is None else str(row.filters) for row in layers],
            "Size": [size(row) for row in layers],
            "Padding": [row.padding or "–" for row in layers],
            "Activation": [row.activation or "–" for row in layers],
            "Output": ["×".join(map(str, row.output)) for row in layers],
            "Weights": [row.parameters for row in layers],
        }
    )


def _compilation() -> pd.DataFrame:
    """Table 2 beside what ``trainer=paper`` says."""
    file = project_root() / "conf" / "trainer" / "paper.yaml"
    ours = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(ours, dict)
    optimizer = ours["optimizer"]
    here = [
        optimizer["_target_"],
        optimizer["lr"],
        ours["batch_size"],
        "torch.nn.functional.cross_entropy",
        "val/acc",
        "Max val/acc",
        f"After {ours['patience']} epochs without a lower val/loss",
    ]
    table = pd.DataFrame({"": list(TABLE_2), "paper": TABLE_2.values(), "trainer=paper": here})
    return table.astype(str)

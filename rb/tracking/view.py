"""The page of MLflow as it should open: the trainings side by side, with what matters of them.

MLflow keeps views that people share as tags of an experiment; this is such a view, made in
advance. Pages of servers and of databases show it alike.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rb.tracking.origin import KIND_TAG

_KEY = "dia-and-nodia"
_TAG = f"mlflow.sharedViewState.{_KEY}"
_SECTION = "dia-and-nodia-charts"
_COLUMNS = {  # with their widths in pixels
    "tags.`test accuracy`": 105,
    "tags.`test AUC`": 125,
    "tags.`test MDR at FPR 0.05`": 130,
    "metrics.`cost/train_cpu_hours`": 95,
    "metrics.`cost/ms_per_stamp`": 95,
    "params.`model.inputs.channels`": 165,
}
_CURVES = {"val/acc": "validation accuracy", "val/loss": "validation loss"}
_BARS = {"test/accuracy": "test accuracy", "test/auc": "area under the ROC curve"}


def prepare_view(client: Any, experiment_id: str) -> None:
    """Keep the view with an experiment, unless it is there."""
    state = json.dumps(_state(), sort_keys=True)
    # What MLflow's own button writes.
    value = "deflate;" + base64.b64encode(zlib.compress(state.encode())).decode()
    if client.get_experiment(experiment_id).tags.get(_TAG) != value:
        client.set_experiment_tag(experiment_id, _TAG, value)


def where_to_look(uri: str, experiment_id: str) -> str:
    """How a person gets to the view: a link to a server, or the command that starts one."""
    if uri.startswith(("http://", "https://")):
        return view_address(uri, experiment_id)
    return "make ui, or rb ui"


def view_address(server: str, experiment_id: str, charts: bool = False) -> str:
    """Where the view is on a server of MLflow: as a table, or with its charts."""
    mode = "&compareRunsMode=CHART" if charts else ""
    place = f"#/experiments/{experiment_id}/runs?viewStateShareKey={_KEY}{mode}"
    return f"{server.rstrip('/')}/{place}"


def _state() -> dict[str, Any]:
    charts = [_chart("LINE", key, name) for key, name in _CURVES.items()]
    charts += [_chart("BAR", key, name) for key, name in _BARS.items()]
    return {
        # A filter unfolds sweeps: the jobs stand in the list without their parents.
        "searchFilter": f"tags.`{KIND_TAG}` = 'training'",
        "orderByKey": "metrics.`test/accuracy`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(_COLUMNS),
        "columnOrder": list(_COLUMNS),
        "columnWidths": _COLUMNS,
        "runsHiddenMode": "FIRST_10_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {
                "uuid": _SECTION,
                "name": "DIA and noDIA",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "isAccordionReordered": True,
        "groupBy": None,
        "hideEmptyCharts": True,
    }


def _chart(kind: str, metric: str, name: str) -> dict[str, Any]:
    chart = {
        "type": kind,
        "uuid": f"{kind.lower()}-{metric}",
        "metricSectionId": _SECTION,
        "isGenerated": False,
        "deleted": False,
        "displayName": name,
        "metricKey": metric,
        "runsCountToCompare": 10,
    }
    if kind == "LINE":
        chart |= {
            "selectedMetricKeys": [metric],
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "scaleType": "linear",
            "xAxisKey": "step",
            "xAxisScaleType": "linear",
            "selectedXAxisMetricKey": "",
            "lineSmoothness": 0,
            "ignoreOutliers": False,
            "range": {},
        }
    return chart


def description(
    sentence: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    links: Mapping[str, str],
) -> dict[str, str]:
    """The tag that MLflow shows as the description of a run, from Markdown.

    Parameters
    ----------
    sentence : str
        What came of it.
    head, rows : sequence of str
        A table.
    links : mapping
        Addresses from `run_address`, by what they are called.
    """
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    places = " · ".join(f"[{name}]({place})" for name, place in links.items())
    return {"mlflow.note.content": f"{sentence}\n\n{table}\n\n{places}\n"}


def run_address(experiment_id: str, run_id: str, artifact: str = "") -> str:
    """Where a run, or a file of it, is on the page that shows this."""
    place = f"#/experiments/{experiment_id}/runs/{run_id}"
    return f"{place}/artifacts/{artifact}" if artifact else place

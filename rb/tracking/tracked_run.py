"""One MLflow run, to log to and to read from."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rb.config import flat
from rb.tracking.client import translated, whole_calls
from rb.tracking.origin import SAVED_CONFIG_TAG

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LONGEST = 500  # characters of a parameter or tag; MLflow cuts or refuses longer ones


@dataclass(frozen=True)
class TrackedRun:
    """Handle on one MLflow run.

    Attributes
    ----------
    tracking : Tracking
        The store that it is in.
    run_id : str
        Its ID; empty for a run that is not recorded, because the store can only be read.
    """

    tracking: Any
    run_id: str

    @property
    def data(self) -> Any:
        """Parameters, metrics and tags as they are in the store now."""
        if not self.run_id:
            from mlflow.entities import RunData

            return RunData()
        return self.tracking.client.get_run(self.run_id).data

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.tracking.client.set_tag(self.run_id, key, value)

    def log_config(self, config: Mapping[str, Any], unused: Sequence[str] = ()) -> None:
        """Flat leaves as parameters, the whole as ``config.yaml``.

        Parameters
        ----------
        config : mapping
            The configuration.
        unused : sequence of str
            Parts of it that have no effect by themselves, so that no parameter claims one.
        """
        from mlflow.entities import Param

        self.save_config(config)
        params = [
            Param(k, str(v)[:LONGEST]) for k, v in flat(config) if k.partition(".")[0] not in unused
        ]
        for start in range(0, len(params), 100):  # the server's limit for one call
            self.tracking.client.log_batch(self.run_id, params=params[start : start + 100])

    def save_config(self, config: Mapping[str, Any]) -> None:
        """Keep ``config.yaml``, and its digest once it is there."""
        import yaml

        text = yaml.safe_dump(dict(config), sort_keys=False)
        self.log_text(text, "config.yaml")
        self.tag({SAVED_CONFIG_TAG: hashlib.sha256(text.encode()).hexdigest()})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add parameters that are known only later; those already there are left alone."""
        from mlflow.entities import Param

        have = self.data.params
        new = [Param(k, str(v)[:LONGEST]) for k, v in params.items() if k not in have]
        self.tracking.client.log_batch(self.run_id, params=new)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; those that are not finite are left out, SQL stores refuse some.

        At step 0, where summaries are, a number that is there already is not logged again.
        """
        have = {} if step else self.data.metrics
        self.log_rows([(step, {k: v for k, v in metrics.items() if have.get(k) != v})])

    def log_rows(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log several steps at once; one transaction instead of one per epoch."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(key, float(value), now, step)
            for step, row in rows
            for key, value in row.items()
            if value is not None and math.isfinite(value)
        ]
        for start in range(0, len(metrics), 900):
            self.tracking.client.log_batch(self.run_id, metrics=metrics[start : start + 900])

    def steps(self, metric: str) -> set[int]:
        """Steps at which a metric has been logged already."""
        history = self.tracking.client.get_metric_history(self.run_id, metric)
        return {m.step for m in history}

    def log_text(self, text: str, name: str) -> None:
        """Keep a text as an artifact."""
        self.tracking.client.log_text(self.run_id, text, name)

    def log_json(self, value: Any, name: str) -> None:
        """Keep data as JSON."""
        self.log_text(json.dumps(value, indent=1), name)

    def log_file(self, file: str | os.PathLike[str], folder: str | None = None) -> None:
        """Keep a file as an artifact."""
        self.tracking.client.log_artifact(self.run_id, str(file), folder)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Keep a figure as ``<name>.png``, which the browser shows; reports have vector ones."""
        from rb.figures.style import save_figure

        with tempfile.TemporaryDirectory() as folder:
            (file,) = save_figure(figure, Path(folder) / Path(name).name, ["png"])
            self.log_file(file, str(Path(name).parent) if "/" in name else None)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Record which stamp set was used, for MLflow's Dataset column."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:32],
            source_type="local",
            source=json.dumps({"uri": source}),
        )
        inputs = [DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
        # MLflow looks whether it knows the data set and then adds it, in two steps.
        with self.tracking.alone():
            self.tracking.client.log_inputs(self.run_id, inputs)

    def log_model(
        self,
        checkpoint: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        name: str = "model",
    ) -> str:
        """Log a checkpoint as an MLflow model with a signature: raw stamps in, p_real out.

        The model is loaded by `rb.models.pyfunc` from plain weights; nothing is pickled. A forest
        that needs more than stamps takes a table with the features `columns` instead. Gives the
        model's address.
        """
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema, TensorSpec

        from rb.version import __version__

        signature = ModelSignature(
            inputs=Schema(
                [ColSpec("double", name) for name in columns]
                if columns
                else [TensorSpec(np.dtype("float32"), (-1, 3, -1, -1), "stamps")]
            ),
            outputs=Schema([TensorSpec(np.dtype("float32"), (-1,), "p_real")]),
        )
        uri = self.tracking.uri
        with translated(uri), whole_calls(uri), mlflow.start_run(run_id=self.run_id):
            found = mlflow.pyfunc.log_model(
                name=name,
                loader_module="rb.models.pyfunc",
                data_path=str(checkpoint),
                signature=signature,
                # Given, because MLflow would otherwise load the model in a new process to see
                # what it imports.
                pip_requirements=[f"rb=={__version__}"],
            )
        return str(found.model_uri)

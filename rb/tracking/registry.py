"""MLflow's registry: models under a name, of which an alias says which one is in use."""

from __future__ import annotations

import os
from pathlib import Path

from rb.errors import UserError
from rb.tracking.client import translated, whole_calls
from rb.tracking.tracked_run import TrackedRun


def register(run: TrackedRun, file: str | os.PathLike[str], name: str, alias: str) -> str:
    """Log a model with its run, register it, and have an alias point at it.

    Parameters
    ----------
    run : TrackedRun
        Which trained it.
    file : path
        Of the model; MLflow loads it by `rb.models.pyfunc`.
    name, alias : str
        ``models:/NAME@ALIAS`` is what others ask for.

    Returns
    -------
    str
        Number of the version.

    Raises
    ------
    UserError
        If the registry refuses the name or the alias.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = run.tracking.uri
    found = run.log_model(file, name="exported")
    try:
        with translated(uri), whole_calls(uri):
            version = mlflow.register_model(found, name)
            run.tracking.client.set_registered_model_alias(name, alias, version.version)
    except MlflowException as error:
        raise UserError(f"--register: {str(error).splitlines()[0]}") from error
    run.tag({"rb.registered": f"{name} {version.version} ({Path(file).name})"})
    return str(version.version)

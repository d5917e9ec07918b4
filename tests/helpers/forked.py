"""What the process that forks commands imports before it does, see `command_lines.Started`."""

import hydra  # noqa: F401
import lightning  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.backends.backend_pdf  # noqa: F401
import pandas  # noqa: F401
import scipy.stats  # noqa: F401
import statsmodels.stats.proportion  # noqa: F401
from mlflow.store.tracking import sqlalchemy_store  # noqa: F401
from shortcuts import empty_database, take

import rb.commands.evaluate
import rb.commands.train
import rb.studies.comparison
import rb.studies.run
import rb.training.job
import rb.training.network  # noqa: F401

take()
empty_database()

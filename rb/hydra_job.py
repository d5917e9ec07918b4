"""Run a Hydra command so that a user's mistake is one line and exit code 2."""

from __future__ import annotations

import difflib
import functools
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from rb.config import register_resolvers, words_as_typed
from rb.errors import UserError
from rb.interrupts import Interrupted, listen, listen_no_more

# A failed job of a sweep must not stop the others; it is remembered here for the exit code.
_failed_jobs: list[str] = []
# What Hydra leaves open when a sweep is stopped or fails: its callbacks are not called then.
_left_open: list[Callable[[BaseException], None]] = []

# Plugins of Hydra by the name that configuration files call them, and the extra with them.
_PLUGINS = {
    "joblib": "sweeps",
    "submitit_local": "sweeps",
    "submitit_slurm": "sweeps",
    "optuna": "optuna",
}


def run_command(main: Callable[[], Any]) -> NoReturn:
    """Call `main`, a function decorated with `hydra.main`, and exit.

    Exit codes: 0 done, 1 a defect or a failed job of a sweep, 2 a user's mistake,
    130 or 143 interrupted.
    """
    # Hydra otherwise prints its own multi-line message and hides the exception.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    register_resolvers()
    sys.argv[1:] = words_as_typed(sys.argv[1:])
    listen()
    try:
        try:
            main()
        except BaseException as error:
            while _left_open:
                _left_open.pop()(error)
            raise
    except UserError as error:
        fail(str(error))
    except Interrupted as stop:
        print(f"stopped by {stop}", file=sys.stderr)
        sys.exit(128 + stop.signum)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        message = configuration_message(error)
        if message is None:
            raise
        fail(message)
    finally:  # all is said and recorded: an end from outside needs no words any more
        listen_no_more()
    sys.exit(1 if _failed_jobs else 0)


def job(work: Callable[[Any], float | None]) -> Callable[[Any], float | None]:
    """Wrap what a Hydra job does: in a sweep, a user's mistake fails that job only."""

    @functools.wraps(work)
    def wrapped(config: Any) -> float | None:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        try:
            return work(config)
        except UserError as error:
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                fail(str(error))
            overrides = " ".join(HydraConfig.get().overrides.task)
            print(f"error: {overrides}: {error}", file=sys.stderr)
            _failed_jobs.append(overrides)
            return float("nan")

    return wrapped


def at_failure(close: Callable[[BaseException], None]) -> None:
    """Have `close` called with what stops the command, if anything does."""
    _left_open.append(close)


def job_failed(name: str) -> None:
    """Remember for the exit code that a job of a sweep failed."""
    _failed_jobs.append(name)


def fail(message: str) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def configuration_message(error: Exception) -> str | None:
    """One line for what Hydra and OmegaConf raise; None if it is not about configuration."""
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    cause: BaseException | None = error
    while cause and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if "Config group override must be" in str(error) or _composing(error):
        return (
            "a group of settings is given what is no name of a choice; give one, such as "
            "data=simulated"
        )
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    text = " ".join(str(error).split())
    text = text.removeprefix("UserError raised while resolving interpolation: ")
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return f"there is no setting '{key[1]}'{_nearest(key[1])}; see --help"
    plugin = re.search(r"Could not find 'hydra/(?:launcher|sweeper)/([^']+)'", text)
    if plugin and plugin[1] in _PLUGINS:
        return f"{plugin[1]} is not installed; pip install 'rb[{_PLUGINS[plugin[1]]}]'"
    option = re.search(r"Could not find '([^']+)/([^'/]+)'.*Available options[^:]*: *(.*)", text)
    if option:
        names = re.sub(r"Config search path.*", "", option[3]).split()
        return f"{option[1]}={option[2]}: there is no such choice; have {', '.join(names)}"
    extra = re.search(r"Could not append to config.*?'([^']+)'", text)
    if extra:
        return text
    return re.split(r" full_key:| Set the environment| See https:", text)[0].strip()


def _composing(error: Exception) -> bool:
    """Whether Hydra itself stumbled over what it was to put together."""
    frames = traceback.extract_tb(error.__traceback__)
    place = Path(frames[-1].filename).parts if frames else ()
    return isinstance(error, TypeError) and place[-3:-1] == ("hydra", "_internal")


def _unreadable(word: str) -> str:
    """What to write in the place of a word that Hydra's grammar does not take."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        return f"'{word}' is no setting; write KEY=VALUE, see --help"
    if value.startswith(("[", "{")):
        return (
            f"{key}: the list {value} cannot be read; entries with other characters than letters, "
            f'digits and ._-/:+ need quotation marks, such as \'{key}=["a=1.ckpt","b.ckpt"]\''
        )
    # In Hydra's quotation marks a backslash counts only before a quotation mark.
    plain = re.sub(r'(\\*)("|$)', lambda m: 2 * m[1] + (m[2] and '\\"'), value)
    quoted = shlex.quote(f'{key}="{plain}"')
    return f"{key}: {value} has characters that need quotation marks; write {quoted}"


def _nearest(key: str) -> str:
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from rb.config import flat, project_root

    known: dict[str, list[str]] = {}
    GlobalHydra.instance().clear()
    for file in (project_root() / "conf").rglob("*.yaml"):
        group = file.parent.name if file.parent.name != "conf" else ""
        try:
            leaves = flat(OmegaConf.to_container(OmegaConf.load(file)))  # type: ignore[arg-type]
        except Exception:  # a broken file is reported when it is used
            continue
        for name, _ in leaves:
            if "defaults" not in name:
                known.setdefault(f"{group}.{name}".lstrip("."), []).append(f"{group}={file.stem}")
    if key in known:
        return f" here, but in {' and '.join(sorted(known[key]))}"
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""

"""Kill commands at any moment, go on, and compare with what an undisturbed one leaves.

    make faults
    python tests/faults/harness.py --injections 300 --minutes 45

A process that has everything imported forks one for each command, so that an injection takes
seconds. Some are killed at moments drawn at random, some at the points where something is put in
its place or recorded, some are ended as batch systems do it, some run out of room for files; some
commands are started twice at once. Then the command is started again, until it ends well.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import random
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent / "helpers")]
sys.modules.setdefault("harness", sys.modules[__name__])

_ATTEMPTS = 4
_LIMIT_S = 120.0

POINTS = (
    "os.replace", "os.fsync", "os.rename", "torch.save", "sqlite3.connect",
    "mlflow.MlflowClient.create_run", "mlflow.MlflowClient.log_batch",
    "mlflow.MlflowClient.set_tag", "mlflow.MlflowClient.log_artifact",
    "mlflow.MlflowClient.set_terminated", "mlflow.MlflowClient.create_experiment",
    "pyarrow.parquet.write_table",
)  # fmt: skip
"""Where a command is about to have, or just has, something in its place."""


@dataclass(frozen=True)
class Fault:
    """What happens to a command.

    Parameters
    ----------
    kind : str
        ``kill`` or ``term`` after a time, ``before`` or ``after`` a call, ``room`` for files.
    value : float
        Seconds, number of the call, or bytes.
    point : str
        Of `POINTS`.
    """

    kind: str
    value: float = 0.0
    point: str = ""

    def __str__(self) -> str:
        if self.point:
            return f"{self.kind} call {self.value:.0f} of {self.point}"
        unit = "bytes" if self.kind == "room" else "s"
        return f"{self.kind} {self.value:.3g} {unit}"


def perform(words: list[str]) -> int:
    """Run a command in this process; its exit code."""
    name, *rest = words
    if name == "build":
        from composing import composed

        from rb.errors import UserError
        from rb.sources import open_stamps

        try:
            open_stamps(composed("train", *rest)["data"])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        return 0
    if name == "rb":
        from rb.cli import main

        return main(rest)
    sys.argv = [str(ROOT / name), *rest]
    try:
        runpy.run_path(str(ROOT / name), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def arm(fault: Fault) -> None:
    """Have this process meet its end."""
    if fault.kind == "room":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(fault.value), int(fault.value)))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        return
    *place, name = fault.point.split(".")
    owner: Any = __import__(place[0])
    for part in place[1:]:
        owner = getattr(owner, part)
    whole, calls = getattr(owner, name), 0

    def deadly(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        now = calls == int(fault.value)
        if now and fault.kind == "before":
            os.killpg(0, signal.SIGKILL)
        result = whole(*arguments, **named)
        if now:
            os.killpg(0, signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def start(words: list[str], folder: Path, fault: Fault | None = None) -> int:
    """Fork a process that runs a command; its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Here, so that it is there however early the process is killed.
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    pid = os.fork()
    if pid:
        os.close(log)
        return pid
    code = 1
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(ROOT)
        os.environ["OMP_NUM_THREADS"] = "1"
        if fault is not None and fault.kind not in ("kill", "term"):
            arm(fault)
        code = perform(words)
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, fault: Fault | None = None) -> int:
    """Exit code of a process, negative for a signal; ended from outside if that is its fault."""
    started, sent = time.monotonic(), False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        spent = time.monotonic() - started
        if fault and not sent and fault.kind in ("kill", "term") and spent >= fault.value:
            ends = signal.SIGKILL if fault.kind == "kill" else signal.SIGTERM
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(pid, ends)
            sent = True
        if spent > _LIMIT_S:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise TimeoutError("it hangs")
        time.sleep(0.002)


def run(words: list[str], folder: Path, fault: Fault | None = None) -> int:
    """Start a command and wait for its end."""
    return wait(start(words, folder, fault), fault)


def asked(function: Any, folder: Path) -> Any:
    """A function's answer from a process of its own, so that this one stays as it is."""
    answer = folder / "answer.json"
    pid = os.fork()
    if not pid:
        code = 1
        try:
            answer.write_text(json.dumps(function(folder)))
            code = 0
        except BaseException as error:
            answer.write_text(json.dumps({"failed": f"{type(error).__name__}: {error}"[:300]}))
        finally:
            os._exit(code)
    os.waitpid(pid, 0)
    found = json.loads(answer.read_text())
    answer.unlink()
    return found


def draw(scenario: Any, seconds: float, rng: random.Random) -> Fault:
    """A fault for a command that takes so long."""
    kind = rng.choices(("kill", "before", "after", "term", "room"), (40, 20, 20, 12, 8))[0]
    if kind in ("kill", "term"):
        return Fault(kind, rng.uniform(0, 1.05 * seconds))
    if kind == "room":
        return Fault(kind, 10 ** rng.uniform(3.8, 5.6))  # what it says itself has room
    return Fault(kind, rng.choice((1, 1, 2, 3, 5, 8, 13, 21)), rng.choice(POINTS))


@dataclass
class Verdict:
    """What came of an injection."""

    scenario: str
    faults: list[str]
    hit: bool
    lost: str = ""
    wrong: str = ""


class Bench:
    """Scenarios, ready to be disturbed."""

    def __init__(self, scenarios: Any, place: Path) -> None:
        self.place = place
        self.ready: dict[str, tuple[Any, Path, Any, float]] = {}
        for scenario in scenarios:
            folder = place / scenario.name.replace(" ", "-")
            folder.mkdir()
            asked(lambda f, s=scenario: s.prepare(f), folder)
            plain = self.copy(folder)
            started = time.monotonic()
            code = run(scenario.words(plain), plain)
            seconds = time.monotonic() - started
            expected = asked(scenario.outcome, plain)
            if code or "failed" in expected:
                raise SystemExit(f"{scenario.name}: {expected}\n{(plain / 'log.txt').read_text()}")
            shutil.rmtree(plain)
            self.ready[scenario.name] = scenario, folder, expected, seconds

    def copy(self, folder: Path) -> Path:
        """The prepared folder under another name; MLflow's places are mended when it is opened."""
        new = Path(tempfile.mkdtemp(prefix="fault-", dir=self.place))
        shutil.copytree(folder, new, dirs_exist_ok=True)
        return new

    def disturb(self, name: str, rng: random.Random) -> Verdict:
        """One injection, sometimes followed by others, and what came of it."""
        scenario, prepared, expected, seconds = self.ready[name]
        folder = self.copy(prepared)
        again = scenario.again or scenario.words
        verdict, words, said = Verdict(name, [], False), scenario.words(folder), ""
        try:
            for _ in range(1 + (rng.random() < 0.3)):
                fault = draw(scenario, seconds, rng)
                verdict.faults.append(str(fault))
                code = run(words, folder, fault)
                said += (folder / "log.txt").read_text(errors="replace")
                verdict.hit |= code != 0
                if code not in (0, 2, -9, -15, 143):
                    verdict.wrong = f"exit code {code}"
                words = asked(again, folder)
                if isinstance(words, dict):
                    verdict.lost = str(words)
                    return verdict
            self._finish(verdict, scenario, folder, words, expected)
        except TimeoutError as error:
            verdict.lost = str(error)
        said += (folder / "log.txt").read_text(errors="replace")
        if "Traceback" in said and not verdict.wrong:
            verdict.wrong = "traceback: " + said.strip().splitlines()[-1][:200]
        if verdict.lost or verdict.wrong:
            (folder / "log.txt").write_text(said)
        else:
            shutil.rmtree(folder)
        return verdict

    def both(self, name: str) -> Verdict:
        """The same command twice at once."""
        scenario, prepared, expected, _ = self.ready[name]
        folder = self.copy(prepared)
        verdict = Verdict(name, ["two at once"], True)
        words = scenario.words(folder)
        codes = [wait(pid) for pid in [start(words, folder) for _ in range(2)]]
        if not set(codes) <= {0, 2} or 0 not in codes:
            verdict.wrong = f"exit codes {codes}"
        if scenario.name in ("training", "evaluation"):  # these are two, and may both be there
            found = asked(scenario.outcome, folder)
            if found.get("running"):
                verdict.lost = f"still running: {found}"
        else:
            self._finish(verdict, scenario, folder, words, expected)
        said = (folder / "log.txt").read_text(errors="replace")
        if "Traceback" in said:
            verdict.wrong = "traceback: " + said.strip().splitlines()[-1][:200]
        if not (verdict.lost or verdict.wrong):
            shutil.rmtree(folder)
        return verdict

    @staticmethod
    def _finish(
        verdict: Verdict, scenario: Any, folder: Path, words: list[str], expected: Any
    ) -> None:
        for _ in range(_ATTEMPTS):
            code = run(words, folder)
            if code == 0:
                break
        else:
            tail = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
            verdict.lost = f"cannot be taken up, exit code {code}: {tail}"
            return
        found = asked(scenario.outcome, folder)
        if found != expected:
            verdict.lost = f"{found} instead of {expected}"


def table(verdicts: list[Verdict]) -> str:
    """The outcome in Markdown: what was disturbed, how often, and what came of it."""
    lines = [
        "| command | injections | of which ended it | lost | wrong |",
        "| --- | --- | --- | --- | --- |",
    ]
    names = list(dict.fromkeys(v.scenario for v in verdicts))
    for name in (*names, "all"):
        own = [v for v in verdicts if name in (v.scenario, "all")]
        counts = [
            len(own),
            *(
                sum(map(bool, c))
                for c in zip(*((v.hit, v.lost, v.wrong) for v in own), strict=True)
            ),
        ]
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> int:
    """Inject until there are enough, or time is up; 1 if anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--injections", type=int, default=300, help="beside each command twice")
    parser.add_argument("--minutes", type=float, default=45.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one scenario")
    parser.add_argument("--keep", type=Path, help="where to leave what went wrong")
    told = parser.parse_args()
    preload()
    from scenarios import SCENARIOS

    chosen = [s for s in SCENARIOS if told.only in (None, s.name)]
    until = time.monotonic() + 60 * told.minutes
    rng = random.Random(told.seed)
    place = told.keep or Path(tempfile.mkdtemp(prefix="rb-faults-"))
    place.mkdir(parents=True, exist_ok=True)
    bench = Bench(chosen, place)
    verdicts = [bench.both(s.name) for s in chosen if s.name != "export"]
    twice = len(verdicts)
    while len(verdicts) - twice < told.injections and time.monotonic() < until:
        name = rng.choice(chosen).name
        verdict = bench.disturb(name, rng)
        verdicts.append(verdict)
        if verdict.lost or verdict.wrong:
            print(f"{verdict.scenario}, {verdict.faults}: {verdict.lost or verdict.wrong}")
        if len(verdicts) % 25 == 0:
            print(f"{len(verdicts)} injections", file=sys.stderr)
    print(table(verdicts))
    bad = [v for v in verdicts if v.lost or v.wrong]
    if not told.keep and not bad:
        shutil.rmtree(place)
    return 1 if bad else 0


def preload() -> None:
    """Import what commands need, once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in (
        "torch", "lightning", "mlflow", "pandas", "pyarrow.parquet", "hydra", "scipy.stats",
        "matplotlib.pyplot", "fastavro", "astropy.io.fits", "onnxruntime", "onnx", "onnxscript",
        "sklearn", "statsmodels.api", "rb.training.job", "rb.studies.run", "rb.sweeps.parent",
        "rb.scoring.job", "rb.scoring.export", "rb.sources.simulated", "composing", "rb.cli",
        "rb.evaluation.choose", "rb.studies.comparison", "mlflow.pyfunc",
    ):  # fmt: skip
        __import__(name)


if __name__ == "__main__":
    sys.exit(main())

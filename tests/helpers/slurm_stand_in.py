"""Enough of Slurm's commands to run a job array on this machine, for tests.

`install` writes one script under the names sbatch, srun, sacct, scancel and scontrol. Jobs run
at once as processes of their own; what sacct would say of them lies in the folder ``state``.
"""

from __future__ import annotations

import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(folder: Path) -> Path:
    """Write the commands; the folder is to be put in front of PATH."""
    folder.mkdir(parents=True)
    (folder / "state").mkdir()
    for name in COMMANDS:
        file = folder / name
        file.write_text(f"#!{sys.executable}\n{_SCRIPT}")
        file.chmod(0o755)
    return folder


def submitted(folder: Path) -> str:
    """The batch script that was handed in last."""
    return max((folder / "state").glob("*.sh"), key=lambda f: f.stat().st_mtime).read_text()


_SCRIPT = r"""
import os, re, signal, subprocess, sys
from pathlib import Path

here = Path(__file__).resolve().parent
state = here / "state"
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
ARRAY = "4711"


def run(task):
    "One task of the array: as often as it is queued again."
    env = dict(
        os.environ, SLURM_JOB_ID=str(4711 + int(task)), SLURM_ARRAY_JOB_ID=ARRAY,
        SLURM_ARRAY_TASK_ID=task, SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0",
        SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_CPUS_PER_TASK="2",
        SLURM_JOB_NODELIST=os.uname().nodename,
    )
    while True:
        (state / task).write_text("RUNNING")
        code = subprocess.call(["bash", str(state / f"{ARRAY}.sh")], env=env)
        if (state / task).read_text() != "REQUEUED":
            break
    if (state / task).read_text() == "RUNNING":
        (state / task).write_text("COMPLETED" if code == 0 else "FAILED")


def file_of(option):
    path = arguments[arguments.index(option) + 1]
    for mark, value in (("%A", ARRAY), ("%a", os.environ["SLURM_ARRAY_TASK_ID"]), ("%t", "0")):
        path = path.replace(mark, value)
    return open(path, "a")


if name == "sbatch" and arguments[0] == "--task":
    run(arguments[1])
elif name == "sbatch":
    script = Path(arguments[0]).read_text()
    (state / f"{ARRAY}.sh").write_text(script)
    first, last = re.search(r"#SBATCH --array=(\d+)-(\d+)", script).groups()
    nothing = subprocess.DEVNULL
    for task in range(int(first), int(last) + 1):
        (state / str(task)).write_text("PENDING")
        job = subprocess.Popen(
            [str(here / "sbatch"), "--task", str(task)], start_new_session=True,
            stdin=nothing, stdout=nothing, stderr=nothing,
        )
        (state / f"{task}.pid").write_text(str(job.pid))
    print(f"Submitted batch job {ARRAY}")
elif name == "srun":
    start = arguments.index("--error") + 2
    files = {"stdout": file_of("--output"), "stderr": file_of("--error")}
    sys.exit(subprocess.call(arguments[start:], **files))
elif name == "sacct":
    print("JobID|State|NodeList")
    for one in sorted(f for f in state.iterdir() if f.name.isdigit()):
        print(f"{ARRAY}_{one.name}|{one.read_text()}|{os.uname().nodename}")
elif name == "scontrol":  # requeue
    (state / arguments[1].partition("_")[2]).write_text("REQUEUED")
elif name == "scancel":
    task = arguments[0].partition("_")[2]
    (state / task).write_text("CANCELLED")
    os.killpg(int((state / f"{task}.pid").read_text()), signal.SIGKILL)
"""

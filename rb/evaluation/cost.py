"""What training, scoring and difference imaging cost, in the units of the paper's section 5.2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rb.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from rb.stamps import StampSet

CCDS, CCD_SHAPE = 62, (2048, 4096)
"""Science detectors of DECam (Flaugher et al. 2015) and their size, px."""
FOCAL_PLANE_PX = CCDS * CCD_SHAPE[0] * CCD_SHAPE[1]

IMAGING_STEPS = ("psf_matching", "subtraction", "detection")


@dataclass(frozen=True)
class Machine:
    """How a computing centre charges for a node, after NERSC's rule.

    Attributes
    ----------
    nodes : int
        Nodes of a job.
    charge_factor : float
        Hours charged for an hour on a node of this machine.
    qos_factor : float
        Factor of the queue.
    cores_per_node : int
        Physical cores of a node.
    cores : int or None
        Cores that a job in a shared queue asks for and is charged for; None: whole nodes.
    """

    nodes: int = 1
    charge_factor: float = 1.0
    qos_factor: float = 1.0
    cores_per_node: int = 128
    cores: int | None = None

    def __post_init__(self) -> None:
        for key in ("nodes", "cores_per_node"):
            _positive(key, getattr(self, key), whole=True)
        for key in ("charge_factor", "qos_factor"):
            _positive(key, getattr(self, key))
        if self.cores is not None:
            _positive("cores", self.cores, whole=True)
            if self.cores > self.nodes * self.cores_per_node:
                raise UserError(
                    f"study.machine.cores is {self.cores}; {self.nodes} node(s) have "
                    f"{self.nodes * self.cores_per_node}"
                )

    @property
    def share(self) -> float:
        """Share of the nodes that is paid for."""
        return 1.0 if self.cores is None else self.cores / (self.nodes * self.cores_per_node)

    def node_hours(self, wall_s: float) -> float:
        """Nodes times hours times the share of them that is used."""
        return self.nodes * self.share * wall_s / 3600

    def charged_hours(self, wall_s: float) -> float:
        """What is taken from the project's account: node hours times both factors."""
        return self.node_hours(wall_s) * self.charge_factor * self.qos_factor


def _positive(key: str, value: Any, whole: bool = False) -> None:
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        what = "a whole number of at least 1" if whole else "a number above 0"
        raise UserError(f"study.machine.{key} is {value}; give {what}")


@dataclass(frozen=True)
class Imaging:
    """CPU time of difference imaging, measured frame by frame.

    Attributes
    ----------
    seconds : dict
        By step, CPU seconds of each frame, (n_frames,).
    frame_px : int
        Pixels of a frame.
    candidates : int
        Candidates in all of these frames.
    """

    seconds: dict[str, np.ndarray]
    frame_px: int
    candidates: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(next(iter(self.seconds.values())))

    @property
    def candidates_per_plane(self) -> float:
        """Candidates on a DECam focal plane at the density of these frames."""
        return self.candidates / self.frames * FOCAL_PLANE_PX / self.frame_px

    def per_frame(self, step: str) -> float:
        """Mean CPU seconds of a frame."""
        return float(self.seconds[step].mean())

    def per_candidate(self, step: str) -> float:
        """CPU seconds of a candidate."""
        return float(self.seconds[step].sum() / self.candidates)

    def per_plane(self, step: str) -> float:
        """CPU seconds of a focal plane: that of a frame, scaled by the area."""
        return self.per_frame(step) * FOCAL_PLANE_PX / self.frame_px

    def table(self) -> pd.DataFrame:
        """A row a step, and all of them together: CPU time of a frame and of a candidate."""
        import pandas as pd

        costs = pd.DataFrame(
            {
                "step": [step.replace("_", " ") for step in self.seconds],
                "CPU s per frame": [self.per_frame(step) for step in self.seconds],
                "CPU ms per candidate": [1000 * self.per_candidate(step) for step in self.seconds],
            }
        )
        total = {"step": "together"} | costs.drop(columns="step").sum().to_dict()
        return pd.concat([costs, pd.DataFrame([total])], ignore_index=True)


def imaging_of(stamp_set: StampSet) -> Imaging | None:
    """What difference imaging took for the frames of a simulated set; None for other sets.

    Raises
    ------
    UserError
        If the set has such a table but does not say how large its frames are.
    """
    if "frames" not in stamp_set.meta.get("tables", []):
        return None
    frames = stamp_set.table("frames")
    steps = [s for s in IMAGING_STEPS if f"cpu_{s}_s" in frames]
    if not steps or not len(frames):
        return None
    settings = stamp_set.meta.get("parameters", {}).get("settings", {})
    side = settings.get("scene", {}).get("frame_size")
    if side is None:
        raise UserError(f"{stamp_set.path}: does not say how large its frames are")
    seconds = {step: frames[f"cpu_{step}_s"].to_numpy(dtype=float) for step in steps}
    found = int(frames["detections"].sum()) if "detections" in frames else len(stamp_set)
    return Imaging(seconds, int(side) ** 2, found)


def tiles_per_plane(side: int) -> float:
    """Stamps of `side` px that cover a focal plane once; the paper counts in these."""
    return FOCAL_PLANE_PX / side**2


def cpu_per_stamp(timing: pd.DataFrame) -> float:
    """CPU seconds of a stamp, scaling included, at the batch size that needs least."""
    return float(timing["cpu_ms_per_stamp_with_scaling"].min()) / 1000


def extrapolated_hours(
    cpu_hours: float, stamps: int, epochs: float, to_stamps: int, to_epochs: float
) -> float:
    """CPU hours of a training with more stamps and epochs, at the same time per stamp and epoch."""
    return cpu_hours * (to_stamps * to_epochs) / (stamps * epochs)


def timed_rows(n: int, most: int, seed: int = 0) -> np.ndarray:
    """Rows of a set to be timed: at most `most`, drawn at random, in file order."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n, size=min(n, most), replace=False))


def checked_batches(sizes: Sequence[Any]) -> list[int]:
    """Batch sizes as whole numbers of at least 1; UserError if one is not."""
    for size in sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"study.batch_sizes: {size} is no whole number of at least 1")
    if not sizes:
        raise UserError("study.batch_sizes is empty; give e.g. [1,32,200,1000]")
    return sorted(set(sizes))

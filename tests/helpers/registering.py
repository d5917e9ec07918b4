"""A network of another package made known to `rb`, as an installer would do it."""

from __future__ import annotations

from pathlib import Path


def register_network(folder: Path, where: str) -> Path:
    """Write into `folder` what a package with the network `module:Class` declares."""
    about = folder / "toynets-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toynets\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[rb.networks]\nmine = {where}\n")
    return folder

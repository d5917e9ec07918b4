"""Stamps: the set on disk, scaling, stacking, splits and the DataModule.

The DataModule is imported from `rb.stamps.datamodule`, because it needs torch and
lightning, which take seconds to import.
"""

from rb.stamps.stampset import CHANNELS, STAMP_SIZE, StampSet
from rb.stamps.writer import StampSetWriter

__all__ = ["CHANNELS", "STAMP_SIZE", "StampSet", "StampSetWriter"]

"""The DES autoscan archive (Goldstein et al. 2015): tars or unpacked files, and its table."""

from rb.sources.des.settings import DesSettings
from rb.sources.des.source import open_stamps

check_settings = DesSettings.of

__all__ = ["check_settings", "open_stamps"]

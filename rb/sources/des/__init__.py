"""The DES autoscan archive (Goldstein et al. 2015): tars or unpacked files, and its table."""

from rb.sources.des.source import open_stamps

__all__ = ["open_stamps"]

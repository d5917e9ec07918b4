"""The autoscan features: from stamps, and from the DES table."""

from rb.features.columns import (
    ALL_38,
    FEATURES_FROM_STAMP,
    MEASURED_FEATURES,
    PIXEL_FEATURES,
)

__all__ = ["ALL_38", "FEATURES_FROM_STAMP", "MEASURED_FEATURES", "PIXEL_FEATURES"]

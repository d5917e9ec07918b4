"""Alert packets: Avro, Parquet, folders of either."""

from rb.sources.alerts.settings import AlertSettings
from rb.sources.alerts.source import open_stamps

check_settings = AlertSettings.from_config

__all__ = ["check_settings", "open_stamps"]

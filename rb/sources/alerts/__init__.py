"""Alert packets: Avro, Parquet, folders of either."""

from rb.sources.alerts.source import check_settings, open_stamps

__all__ = ["check_settings", "open_stamps"]

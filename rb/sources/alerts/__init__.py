"""Alert packets: Avro, Parquet, folders of either."""

from rb.sources.alerts.source import open_stamps

__all__ = ["open_stamps"]

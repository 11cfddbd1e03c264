"""What a person sees: one self-contained HTML file, and the 2-D map in it."""

from __future__ import annotations

from imageherd.report.data import ReportCluster, ReportData
from imageherd.report.page import MAX_BYTES, write_report

__all__ = ["MAX_BYTES", "ReportCluster", "ReportData", "write_report"]

"""What a person sees: one self-contained HTML file, and the 2-D map in it."""

from __future__ import annotations

import os
from pathlib import Path

from imageherd.errors import ImageherdError
from imageherd.report.data import ReportCluster, ReportData
from imageherd.report.page import MAX_BYTES, write_report

__all__ = ["MAX_BYTES", "ReportCluster", "ReportData", "report_file", "write_report"]


def report_file(herd: Path, name: str) -> Path:
    """Return where the report of a clustering goes unless the user says.

    Raises
    ------
    ImageherdError
        If the herd is read-only.
    """
    if not os.access(herd, os.W_OK):
        raise ImageherdError(
            f"{herd} cannot be written; say where the report is to be: --output FILE."
        )
    return herd / "report" / ("index.html" if name == "default" else f"{name}.html")

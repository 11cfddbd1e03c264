"""The map's points, as binary arrays."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()

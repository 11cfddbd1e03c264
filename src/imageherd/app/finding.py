"""Search by image, by text and by an item."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()

"""The images themselves, as thumbnails and whole."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()

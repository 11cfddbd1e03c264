"""The clustering as a file: what is on the screen, for other programs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from imageherd.app.clusterings import Name, tagged
from imageherd.app.opened import Here, Opened
from imageherd.clustering import Clustering
from imageherd.columns import columns_of
from imageherd.derived import feature_set
from imageherd.export import assignments_table, export, safe_name
from imageherd.versions import clustering_of

router = APIRouter()

KINDS = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


@router.get("/clusterings/{c}/export", response_class=FileResponse, responses=CONTENT)
def export_file(
    c: Name,
    here: Here,
    response: Response,
    format: Annotated[Literal["csv", "json", "parquet"], Query(description="Of the file.")] = "csv",
    as_trained: Annotated[
        bool, Query(description="Images where the head put them; names given by hand stay.")
    ] = False,
) -> FileResponse:
    """Write the clustering as edited: what `imageherd export` writes, or the same as JSON."""
    view = here.view(c)
    clustering = clustering_of(here.herd.path, c) if as_trained else view.clustering
    folder = Path(tempfile.mkdtemp(prefix="imageherd-export-"))
    try:
        file = folder / f"export.{format}"
        _write(here, clustering, file, format)
        pa.default_memory_pool().release_unused()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    name = f"{here.herd.path.stem}-{c}-{clustering.version if as_trained else view.state}"
    answer = FileResponse(
        file,
        media_type=KINDS[format],
        filename=f"{safe_name(name)}.{format}",
        background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
    )
    tagged(view, answer)
    return answer


def _write(here: Opened, clustering: Clustering, file: Path, format: str) -> None:
    items, herd = here.items, here.herd.path
    columns = columns_of(herd, items)
    # Of a million images the hashes alone are 64 MB, and rows are copied.
    items = items.drop_columns(["key", "content_hash"])
    if format == "json":
        with file.open("w", encoding="utf-8") as out:
            out.writelines(_as_json(clustering, assignments_table(clustering, items, columns)))
        return
    store = feature_set(herd, clustering.config["features"])
    export(clustering, items, here.sources, store, file, to=format, columns=columns)


def _as_json(clustering: Clustering, table: pa.Table) -> Iterator[str]:
    """Give the text of ``{"name", "version", "clusters", "items"}``, a few thousand rows a time."""
    about = {
        "name": clustering.name,
        "version": clustering.version,
        "clusters": [{"uid": c.uid, "name": c.name, "size": c.size} for c in clustering.clusters],
    }
    yield json.dumps(about, ensure_ascii=False)[:-1] + ', "items": ['
    first = True
    for batch in table.to_batches(max_chunksize=4096):
        for row in batch.to_pylist():
            yield ("" if first else ",") + "\n" + json.dumps(row, ensure_ascii=False, default=str)
            first = False
    yield "]}\n"

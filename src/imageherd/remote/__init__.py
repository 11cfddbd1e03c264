"""Herds on object stores and other machines' disks: pushed there, and pulled from there.

What lies at the URL, readable by anyone with a JSON reader:

    published/00000001.json ...   one a push: each of the herd's files, its SHA-256 and size
    contents/<sha256>             the files' contents, each once

Nothing there is ever renamed or changed. Contents are put first, if they are absent; a publication
comes last and only if there is none of its number. So a reader sees one push or the next, whole,
of two pushes at once one is refused, and one that was killed goes on with what is missing.
"""

from __future__ import annotations

from imageherd.remote.pulling import Pulled, pull
from imageherd.remote.pushing import Pushed, push

__all__ = ["Pulled", "Pushed", "pull", "push"]

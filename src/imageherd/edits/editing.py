"""Editing a clustering by hand: every edit is checked, entered in the journal, and only then so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imageherd.clustering import Clustering
from imageherd.edits.journal import (
    KINDS,
    PLACED,
    RESERVED,
    Edit,
    EditConflictError,
    Journal,
    in_effect,
    stacks,
)
from imageherd.edits.replay import State, apply
from imageherd.errors import ImageherdError
from imageherd.versions import Versions, checked_name, clustering_of, edits_of, versions_of

Resolve = Callable[[State, int], tuple[dict[str, Any], int]]


def edited(herd: Path, name: str) -> Clustering:
    """Return the current version of a clustering of a herd, as edited.

    Raises
    ------
    ImageherdError
        If the herd has none of this name, or its journal cannot be read.
    """
    base = clustering_of(herd, name)
    return apply(base, in_effect(entries_of(base, Journal(versions_of(herd, name).folder).read())))


def entries_of(base: Clustering, entries: Iterable[Edit]) -> list[Edit]:
    """Return those entries of the journal that are about `base`."""
    about = edits_of(base)
    return [e for e in entries if e.version == about and e.kind != RESERVED]


class Edits:
    """What a person has changed in a clustering, and the way to change more.

    Every change is on disk when the method returns: it outlives a kill at any later moment. Any
    number of these may be at work on one clustering, in threads or processes; each change is
    checked against all that were made before it. `Herd.edit` returns one.

    Parameters
    ----------
    herd : Path
        The herd.
    name : str
        Which clustering.
    author : str, default=""
        Who, for the log.

    Examples
    --------
    >>> edits = Herd("photos.herd").edit(author="Ann")          # doctest: +SKIP
    >>> edits.merge([3, 5])                                     # doctest: +SKIP
    >>> edits.undo()                                            # doctest: +SKIP

    Notes
    -----
    All methods that change something take two arguments more, by keyword:

    id : str, optional
        Of the change, given by whoever asks for it. Asked for twice with the same id, as after an
        answer that was lost, a change is made once, and the entry returned is that of the first.
    expected : str, optional
        The `state` that the change was decided on. If it is no longer that, nothing is changed and
        `imageherd.edits.journal.EditConflictError` is raised.

    They return the entry made, an `imageherd.edits.journal.Edit`, and raise ImageherdError where
    what is asked for is not possible: a cluster or row that is not there, nothing to undo.
    """

    def __init__(self, herd: Path, name: str = "default", author: str = "") -> None:
        self._herd, self._name, self._author = herd, name, author
        self._versions: Versions = versions_of(herd, name)
        self._journal = Journal(self._versions.folder)
        self._lock = threading.RLock()
        self._log: list[Edit] = []
        self._entries: list[Edit] = []
        self._state: State | None = None
        self._refresh(self._journal.read())

    # ---- what there is

    @property
    def state(self) -> str:
        """The version and the last entry that this object has seen, such as "v0002.17"."""
        assert self._state is not None
        last = self._entries[-1].seq if self._entries else 0
        return f"{self._state.base.version}.{last}"

    def clustering(self) -> Clustering:
        """Return the clustering as edited up to now, by all."""
        with self._lock:
            return self._refresh(self._journal.read(self._last)).clustering()

    def log(self) -> list[Edit]:
        """Return all that was ever entered for this clustering, older versions of it included."""
        with self._lock:
            self._refresh(self._journal.read(self._last))
            return [e for e in self._log if e.kind not in (RESERVED, PLACED)]

    def undoable(self) -> tuple[list[Edit], list[Edit]]:
        """Return the edits in effect, and those that can be redone, the next one last."""
        with self._lock:
            self._refresh(self._journal.read(self._last))
            return stacks(self._entries)

    # ---- what changes it

    def rename(self, uid: int, text: str, **how: Any) -> Edit:
        """Give a cluster a name; later versions keep it."""

        def resolve(state: State, _: int) -> tuple[dict[str, Any], int]:
            return {"uid": self._known(state, uid), "name": checked_name(uid, text)}, 0

        return self._enter("rename", resolve, **how)

    def move(self, rows: Sequence[int], to_uid: int | None = None, **how: Any) -> Edit:
        """Move images to a cluster, or to a new one of their own; its uid is ``payload["to"]``."""

        def resolve(state: State, fresh: int) -> tuple[dict[str, Any], int]:
            payload: dict[str, Any] = {"rows": self._rows(state, rows), "new": to_uid is None}
            if to_uid is None:
                return payload | {"to": fresh}, 1
            return payload | {"to": self._known(state, to_uid)}, 0

        return self._enter("move", resolve, **how)

    def outlier(self, rows: Sequence[int], **how: Any) -> Edit:
        """Say of images that they fit nowhere."""
        return self._enter("outlier", lambda s, _: ({"rows": self._rows(s, rows)}, 0), **how)

    def merge(self, uids: Sequence[int], **how: Any) -> Edit:
        """Make two or more clusters one.

        It gets a uid of its own, ``payload["to"]``, and the name of the largest of them.
        """

        def resolve(state: State, fresh: int) -> tuple[dict[str, Any], int]:
            joined = sorted({self._known(state, uid) for uid in uids})
            if len(joined) < 2:
                raise ImageherdError(
                    f"{len(joined)} cluster cannot be merged; give two or more different ones."
                    if joined
                    else "There are no clusters to merge; give two or more."
                )
            return {"uids": joined, "to": fresh}, 1

        return self._enter("merge", resolve, **how)

    def split(self, uid: int, parts: Sequence[Sequence[int]], **how: Any) -> Edit:
        """Make two or more clusters of one.

        Parameters
        ----------
        uid : int
            The cluster.
        parts : sequence of sequences of int
            The rows of each new cluster: two or more, none empty, each image of the cluster in
            exactly one.
        **how
            `id` and `expected`.

        Returns
        -------
        Edit
            ``payload["uids"]`` are the new clusters' uids, in the order of `parts`. They are called
            what the cluster was called, and 1, 2, and so on.
        """

        def resolve(state: State, fresh: int) -> tuple[dict[str, Any], int]:
            members = state.base.rows[state.members(self._known(state, uid))]
            given = [self._rows(state, part) for part in parts]
            if len(given) < 2:
                raise ImageherdError(
                    f"Cluster {uid} cannot be split in {len(given)}; give 2 or more."
                )
            listed = np.concatenate(given)
            if len(listed) != len(members) or (np.sort(listed) != members).any():
                raise ImageherdError(
                    f"The {len(given)} parts of cluster {uid} list {len(listed):,} images and the "
                    f"cluster has {len(members):,}; each of them must be in exactly one part."
                )
            return {
                "uid": uid,
                "parts": given,
                "uids": list(range(fresh, fresh + len(given))),
            }, len(given)

        return self._enter("split", resolve, **how)

    def undo(self, **how: Any) -> Edit:
        """Take back the last edit in effect, whoever made it; ``payload["of"]`` is its number."""
        return self._step("undo", 0, **how)

    def redo(self, **how: Any) -> Edit:
        """Make again what was undone last; a new edit ends what can be redone."""
        return self._step("redo", 1, **how)

    # ---- inside

    def _step(self, kind: str, stack: int, **how: Any) -> Edit:
        def resolve(state: State, _: int) -> tuple[dict[str, Any], int]:
            edits = stacks(self._entries)[stack]
            if not edits:
                raise ImageherdError(
                    f"There is nothing to {kind} in version {state.base.version} of clustering "
                    f"{self._name!r}."
                )
            return {"of": edits[-1].seq}, 0

        return self._enter(kind, resolve, **how)

    def _enter(
        self, kind: str, resolve: Resolve, *, id: str | None = None, expected: str | None = None
    ) -> Edit:
        with self._lock:
            with self._journal.writing() as book:
                if id is not None and (known := book.by_id(id)) is not None:
                    if known.kind != kind:
                        raise ImageherdError(
                            f"The id {id!r} is that of another edit, a {known.kind}; use one once."
                        )
                    return known
                state = self._refresh(book.since(self._last))
                if expected is not None and expected != self.state:
                    raise self._conflict(expected)
                base = state.base
                fresh = max(base.config["next_uid"], book.next_uid())
                payload, n_uids = resolve(state, fresh)
                entry = book.add(
                    *(kind, payload),
                    version=edits_of(base),
                    author=self._author,
                    id=id,
                    next_uid=fresh + n_uids if n_uids else 0,
                )
            self._refresh([entry])
            return entry

    @property
    def _last(self) -> int:
        return self._log[-1].seq if self._log else 0

    def _refresh(self, more: Sequence[Edit]) -> State:
        """Know the clustering as the journal has it, with as little done anew as may be."""
        state, more = self._state, [e for e in more if e.seq > self._last]
        self._log += more
        if state is not None and state.base.version == self._versions.current_version():
            new = entries_of(state.base, more)
            if all(e.kind in KINDS for e in new):
                self._entries += new
                for edit in new:
                    state.apply(edit)
                return state
        # Names are part of what is read, so that the base is read anew even where one was undone.
        self._state = state = State(clustering_of(self._herd, self._name))
        self._entries = entries_of(state.base, self._log)
        for edit in in_effect(self._entries):
            state.apply(edit)
        return state

    def _conflict(self, expected: str) -> EditConflictError:
        version, _, last = expected.rpartition(".")
        base = self._state.base.version if self._state else ""
        if version != base:
            return EditConflictError(
                f"Clustering {self._name!r} is at version {base} by now, and the edit was "
                f"meant for {version}. Look at it again.",
                [],
            )
        since = [e for e in self._entries if not last.isdecimal() or e.seq > int(last)]
        who = ", ".join(dict.fromkeys(e.author or "someone" for e in since)) or "someone"
        return EditConflictError(
            f"Clustering {self._name!r} was edited meanwhile by {who}: it is at {self.state} and "
            f"the edit was meant for {expected}. Look at it again.",
            since,
        )

    def _known(self, state: State, uid: int) -> int:
        if uid not in state.clusters:
            known = ", ".join(map(str, sorted(state.clusters)))
            raise ImageherdError(
                f"Clustering {self._name!r} has no cluster {uid}; its clusters are {known}."
            )
        return int(uid)

    def _rows(self, state: State, rows: Sequence[int] | NDArray[np.int64]) -> list[int]:
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or not (wanted.size == 0 or np.issubdtype(wanted.dtype, np.integer)):
            raise ImageherdError("Images are given by their rows, a list of whole numbers.")
        if wanted.size == 0:
            raise ImageherdError("No images are given; name at least one row.")
        known = np.isin(wanted, state.base.rows)
        if not known.all():
            raise ImageherdError(
                f"Row {wanted[~known][0]} is not an image of clustering {self._name!r}."
            )
        found: list[int] = np.unique(wanted).tolist()
        return found

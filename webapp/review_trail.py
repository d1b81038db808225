"""The review trail as the chain holds it: signed decisions inside the manifests of notarized archives.

The hash of a manifest is in the notarization that the witnesses signed, so that nothing of a trail can be added or taken away later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import orjson

from oracle import review
from oracle.protocol import keccak256
from oracle.review import ReviewError

from .reviews import row_of

Model = dict[str, Any]
MOST_MANIFEST_BYTES = 64 << 20


class TrailReader:
    """Trails of archives, read once and kept while their manifests stay as they are."""

    def __init__(self, archive_folder: Path):
        self._folder = archive_folder
        self._kept: dict[str, tuple[tuple[int, int], str, list[Model]]] = {}
        self._lock = Lock()

    def of(self, notarization: Mapping[str, Any]) -> list[Model]:
        """The decisions in the archive of a notarized batch, each with what holds it; none where the archive is not here.

        What a decision made of the slots of private devices is left out.

        ``manifest_is_notarized``: the manifest hashes to what the chain has. ``signature_holds``: by the reviewer it names.
        """
        root = str(notarization["root"])
        path = self._folder / f"{root[2:]}.json"
        try:
            status = path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            with self._lock:
                kept = self._kept.get(root)
            if kept is None or kept[0] != stamp:
                if status.st_size > MOST_MANIFEST_BYTES:
                    return []
                content = path.read_bytes()
                kept = (stamp, "0x" + keccak256(content).hex(), _entries(content))
                with self._lock:
                    self._kept[root] = kept
        except OSError:
            return []
        _, archive_hash, entries = kept
        held_by = {
            "root": root,
            "archive_hash": archive_hash,
            "notarized_at": notarization["notarized_at"],
            "tx": notarization["tx"],
            "manifest_is_notarized": archive_hash == notarization["archive_hash"],
        }
        return [{**entry, **held_by} for entry in entries]


def _entries(manifest: bytes) -> list[Model]:
    try:
        content = orjson.loads(manifest)
        trail = content.get("reviewTrail", [])
    except (orjson.JSONDecodeError, AttributeError):
        return []
    hidden: Model = {} if content.get("visibility") == "public" else {"edits": []}
    return [
        {**row_of(entry), "signature_holds": _holds(entry), **hidden}
        for entry in (trail if isinstance(trail, list) else [])
        if isinstance(entry, dict)
    ]


def _holds(entry: Model) -> bool:
    try:
        review.verify(entry, [str(entry.get("reviewer"))])
        return True
    except (ReviewError, TypeError, ValueError):
        return False

"""Files behind URLs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlsplit

import requests

from ..config import HttpSource, read_secret
from ..errors import SourceError
from .base import DAY, LATE, Cursor, Delivery, answers, limited, safe_name, shown


class Http:
    """A file behind a URL, or a file a day where the URL holds ``{date}``; fetched again only when it has changed."""

    def __init__(self, access: HttpSource):
        self.access = access
        self._session = requests.Session()
        self._session.trust_env = False
        if access.headers_file:
            for line in read_secret(access.headers_file).splitlines():
                name, _, value = line.partition(":")
                self._session.headers[name.strip()] = value.strip()

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]:
        if "{date}" not in self.access.url:
            found = self._fetch(self.access.url, cursor.get("tag", {}))
            if found is not None:
                data, tag = found
                yield Delivery(self._name(None), data, {"tag": tag})
            return
        first = date.fromisoformat(cursor["day"]) if "day" in cursor else self.access.since
        tags: dict[str, Any] = dict(cursor.get("tags", {}))
        day = first
        while day <= now.date():
            found = self._fetch(
                self.access.url.replace("{date}", day.isoformat()), tags.get(day.isoformat(), {}), optional=True
            )
            if found is not None:
                tags[day.isoformat()] = found[1]
            if datetime.combine(day, datetime.min.time(), UTC) + DAY + LATE <= now:
                # Days end in their order: what lies before the first that has not is never asked for again.
                tags.pop(day.isoformat(), None)
                first = day + DAY
            yield Delivery(self._name(day), found[0] if found else None, {"day": first.isoformat(), "tags": dict(tags)})
            day += DAY

    def _name(self, day: date | None) -> str:
        last = urlsplit(self.access.url).path.rpartition("/")[2] or self.access.name
        name = self.access.file or last
        return safe_name(name.replace("{date}", day.isoformat() if day else ""))

    def _fetch(self, url: str, tag: Mapping[str, str], optional: bool = False) -> tuple[bytes, dict[str, str]] | None:
        """Content and validators; None where it has not changed or, if ``optional``, is not there."""
        headers = {"If-None-Match": tag["etag"]} if "etag" in tag else {}
        if "modified" in tag:
            headers["If-Modified-Since"] = tag["modified"]
        with answers(self.access.name):
            answer = self._session.get(
                url, headers=headers, timeout=self.access.timeout_seconds, stream=True, allow_redirects=False
            )
            with answer:
                if answer.status_code == 304 or (optional and answer.status_code == 404):
                    return None
                if answer.status_code != 200:
                    raise SourceError(f"source {self.access.name}: {shown(url)} answers HTTP {answer.status_code}")
                data = b"".join(limited(answer.iter_content(1 << 16), self.access.max_bytes, self.access.name))
        kept = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
        return data, {key: value for key, value in kept.items() if value}

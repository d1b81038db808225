"""Bulk measurements of Meteocontrol's VCOM API."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import orjson
import requests

from ..config import VcomSource, read_secret
from ..domain import SLOT_SECONDS
from ..errors import SourceError
from .base import DAY, LATE, Cursor, Delivery, answers, limited, safe_name, shown

#: A wait that the service asks for is kept up to here; a longer one ends the look.
LONGEST_WAIT_SECONDS = 60
#: How often one request waits for the service's limit before the look ends.
MOST_WAITS = 5
#: Spans of what is asked for; an interval that is not over would get another value at the next look.
_RESOLUTIONS = {"thirty-minutes": 1_800, "hour": 3_600, "day": 86_400}


class Vcom:
    """Bulk measurements of one system of meteocontrol's VCOM API, a day a file (api.meteocontrol.de/v2, its documentation of
    2026). Written from that documentation and the vendor's published client; not tried against the service.
    """

    def __init__(self, access: VcomSource):
        self.access = access
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["X-API-KEY"] = read_secret(access.api_key_file).strip()

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]:
        begin = (
            datetime.fromisoformat(cursor["from"])
            if "from" in cursor
            else datetime.combine(self.access.since, datetime.min.time(), UTC)
        )
        whole = _RESOLUTIONS.get(self.access.resolution, SLOT_SECONDS)
        until = datetime.fromtimestamp(int(now.timestamp()) // whole * whole, UTC)
        while begin < until:
            # The service answers for a day at most.
            end = begin + DAY
            data = self._measurements(begin, min(end, until))
            over = end + LATE <= now
            after = {"from": (end if over else begin).isoformat()}
            name = safe_name(f"vcom_{self.access.system}_{begin:%Y%m%d}.json")
            yield Delivery(name, data, after)
            if not over:
                return
            begin = end

    def _measurements(self, begin: datetime, end: datetime) -> bytes:
        url = f"{self.access.url}/systems/{quote(self.access.system, safe='')}/bulk/measurements"
        parameters = {
            "from": begin.isoformat(timespec="seconds"),
            "to": (end - timedelta(seconds=1)).isoformat(timespec="seconds"),
            "format": "json",
            "resolution": self.access.resolution,
            "precision": "4",
            "includeInterval": "1",
        }
        return self._ask(url, parameters)

    def _ask(self, url: str, parameters: Mapping[str, str]) -> bytes:
        renewed, waits = False, 0
        while True:
            if "Authorization" not in self._session.headers:
                self._log_in()
            with (
                answers(self.access.name),
                self._session.get(
                    url, params=parameters, timeout=self.access.timeout_seconds, allow_redirects=False, stream=True
                ) as answer,
            ):
                if answer.status_code == 200:
                    return b"".join(limited(answer.iter_content(1 << 16), self.access.max_bytes, self.access.name))
            if answer.status_code == 401 and not renewed:
                self._session.headers.pop("Authorization", None)
                renewed = True
            elif answer.status_code == 429 and waits < MOST_WAITS:
                self._wait(answer)
                waits += 1
            else:
                raise SourceError(f"source {self.access.name}: {shown(url)} answers HTTP {answer.status_code}")

    def _log_in(self) -> None:
        form = {
            "grant_type": "password",
            "username": read_secret(self.access.user_file).strip(),
            "password": read_secret(self.access.password_file).strip(),
        }
        with answers(self.access.name):
            answer = self._session.post(
                f"{self.access.url}/login", data=form, timeout=self.access.timeout_seconds, allow_redirects=False
            )
        if answer.status_code != 200:
            raise SourceError(
                f"source {self.access.name}: the service does not let this user in (HTTP {answer.status_code})"
            )
        try:
            token = orjson.loads(answer.content)["access_token"]
        except (ValueError, KeyError, TypeError):
            raise SourceError(f"source {self.access.name}: the login's answer holds no access_token") from None
        self._session.headers["Authorization"] = f"Bearer {token}"

    def _wait(self, answer: requests.Response) -> None:
        """Wait as long as the service asks; a wait of more than a minute is left to the next look."""
        asked = answer.headers.get("Retry-After") or answer.headers.get("X-RateLimit-Reset-Minute") or "60"
        seconds = int(asked) if asked.isascii() and asked.isdigit() else LONGEST_WAIT_SECONDS + 1
        if seconds > LONGEST_WAIT_SECONDS:
            raise SourceError(
                f"source {self.access.name}: the service's limit is reached; it asks to come again in {asked} s"
            )
        time.sleep(seconds)

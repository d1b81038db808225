"""Where meter and weather files come from by themselves: folders, SFTP and FTP servers, HTTP, MQTT, VCOM.

A source is looked at from where its cursor stands, and the cursor moves only once a file is kept: after a crash
the last file comes again and, being known by its sha256, changes nothing. What cannot be read is kept beside the
raw files with its reason. A source that does not answer is told in :func:`states` and does not hold up the others.
"""

from __future__ import annotations

import contextlib
import csv
import ftplib
import hashlib
import io
import os
import queue
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import orjson
import paramiko
import requests
import structlog
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import select

from .archive import write_whole
from .config import (
    DirectorySource,
    HttpSource,
    MqttSource,
    OracleConfig,
    SourceAccess,
    VcomSource,
    read_secret,
)
from .errors import SourceError
from .intake import IngestedFile, Progress, no_progress, take_bytes
from .store import RefusedFile, SourceState, Store, utc_now

log = structlog.get_logger("oracle.sources")

#: A cursor: JSON that a source understands; None where it was never looked at.
Cursor = dict[str, Any]
DAY = timedelta(days=1)
#: How long after its end a day is fetched again, for readings that come late.
LATE = timedelta(hours=6)
#: A wait that a server asks for is kept up to here; a longer one ends the look.
LONGEST_WAIT_SECONDS = 60
_UNSAFE = re.compile(r"[^\w.,+=@ -]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One file of a source. ``cursor`` is kept once the file is.

    ``data`` is None for a look that found nothing more: only the cursor moves. ``refusal`` says why a file was not even
    fetched.
    """

    name: str
    data: bytes | None
    cursor: Cursor
    refusal: str = ""


class Source(Protocol):
    """Anything that hands over files from a cursor on. Raises SourceError where it does not answer."""

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]: ...


def source_of(config: OracleConfig, access: SourceAccess) -> Source:
    match access:
        case DirectorySource():
            return Directory(access)
        case HttpSource():
            return Http(access)
        case MqttSource():
            return Mqtt(access, config.raw_folder / "spool" / safe_name(access.name))
        case VcomSource():
            return Vcom(access)
        case _:
            raise SourceError(f"source {access.name}: there is no kind {access.kind!r}")


# -- collecting -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collected:
    """What a look at one source brought. ``problem``: why it ended early, None if it did not."""

    source: str
    files: tuple[IngestedFile, ...]
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "files": [file.to_json() for file in self.files], "problem": self.problem}


def collect(
    config: OracleConfig,
    store: Store,
    names: Iterable[str] = (),
    progress: Progress = no_progress,
    *,
    now: datetime | None = None,
) -> list[Collected]:
    """Look at every source of the configuration, or at those of ``names``, and take what is new.

    Raises SourceError for a name that the configuration does not know. Files are judged afterwards, by
    :func:`oracle.pipeline.assess_all`.
    """
    wanted = set(names)
    known = {access.name for access in config.sources}
    if unknown := wanted - known:
        raise SourceError(
            f"no source is called {', '.join(sorted(unknown))}; {config.file} names {', '.join(sorted(known)) or 'none'}"
        )
    chosen = [access for access in config.sources if not wanted or access.name in wanted]
    collected = []
    for done, access in enumerate(chosen):
        progress("looking at sources", done, len(chosen))
        collected.append(_collect(config, store, access, now or utc_now()))
    progress("looking at sources", len(chosen), len(chosen))
    return collected


def _collect(config: OracleConfig, store: Store, access: SourceAccess, now: datetime) -> Collected:
    with store.session() as session:
        state = session.get(SourceState, access.name)
        cursor: Cursor = dict(state.cursor) if state else {}
    files: list[IngestedFile] = []
    problem = None
    try:
        for delivery in source_of(config, access).look(cursor, now):
            if delivery.refusal:
                files.append(IngestedFile(delivery.name, "", refusal=delivery.refusal))
                _keep_refusal(config, store, access.name, delivery.name, b"", delivery.refusal)
            elif delivery.data is not None:
                file = take_bytes(config, store, delivery.name, delivery.data)
                if file.refusal:
                    _keep_refusal(config, store, access.name, delivery.name, delivery.data, file.refusal)
                files.append(file)
            _move(store, access.name, delivery.cursor)
    except SourceError as fault:
        problem = str(fault)
        log.warning("source not read to its end", source=access.name, problem=problem)
    with store.session() as session:
        state = session.get(SourceState, access.name) or SourceState(name=access.name, cursor=cursor)
        state.looked_at, state.problem = utc_now(), problem
        if problem is None:
            state.succeeded_at = state.looked_at
        session.add(state)
    return Collected(access.name, tuple(files), problem)


def _move(store: Store, name: str, cursor: Cursor) -> None:
    with store.session() as session:
        state = session.get(SourceState, name)
        if state is None:
            session.add(SourceState(name=name, cursor=cursor, looked_at=utc_now()))
        else:
            state.cursor = cursor


def _keep_refusal(config: OracleConfig, store: Store, source: str, name: str, data: bytes, reason: str) -> None:
    """A file that is refused is not asked for again; it stays under ``raw_folder/refused`` for whoever mends it."""
    sha256 = hashlib.sha256(data).hexdigest()
    if data:
        folder = config.raw_folder / "refused"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(folder / sha256, data, 0o600)
    with store.session() as session:
        known = select(RefusedFile).where(
            RefusedFile.source == source, RefusedFile.name == name, RefusedFile.sha256 == sha256
        )
        if session.scalars(known).first() is None:
            session.add(RefusedFile(source=source, name=name, sha256=sha256, size_bytes=len(data), reason=reason))


def states(config: OracleConfig, store: Store) -> list[dict[str, Any]]:
    """Each source of the configuration: when it was looked at, when that last went well, what is wrong, what was refused."""
    with store.session() as session:
        kept = {state.name: state for state in session.scalars(select(SourceState))}
        refused = list(session.scalars(select(RefusedFile).order_by(RefusedFile.id)))
        return [
            {
                "source": access.name,
                "kind": access.kind,
                "looked_at": _stamp(kept[access.name].looked_at) if access.name in kept else None,
                "succeeded_at": _stamp(kept[access.name].succeeded_at) if access.name in kept else None,
                "problem": kept[access.name].problem if access.name in kept else None,
                "refused": [
                    {"file": one.name, "sha256": one.sha256, "reason": one.reason}
                    for one in refused
                    if one.source == access.name
                ],
            }
            for access in config.sources
        ]


def _stamp(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def safe_name(name: str) -> str:
    """A file name of at most 200 characters without path or control characters: it names a raw file, never a place."""
    return _UNSAFE.sub("_", name.replace("/", "_"))[:200].lstrip(".") or "unnamed"


# -- folders, here and elsewhere --------------------------------------------------------------------


class Listing(Protocol):
    """A folder somewhere: what lies in it, and what a file holds."""

    def files(self) -> dict[str, tuple[int, int]]:
        """Size in bytes and modification time in seconds of each file by name."""
        ...

    def read(self, name: str, most: int) -> bytes:
        """At most ``most`` + 1 bytes of a file."""
        ...

    def close(self) -> None: ...


class Directory:
    """Files of a folder; each is taken once it has stopped growing, and again when it changes. Nothing is deleted."""

    def __init__(self, access: DirectorySource):
        self.access = access

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]:
        listing = self._open()
        try:
            with _answers(self.access.name):
                there = {n: seen for n, seen in listing.files().items() if fnmatchcase(n, self.access.pattern)}
            # Files that are gone are forgotten, so that the cursor does not grow for ever.
            taken = {n: seen for n, seen in cursor.get("taken", {}).items() if n in there}
            before = cursor.get("growing", {})
            new = {n: list(seen) for n, seen in there.items() if taken.get(n) != list(seen)}
            settled = int(now.timestamp()) - self.access.settle_seconds
            ready = [n for n, seen in new.items() if before.get(n) == seen or seen[1] <= settled]
            growing = {n: seen for n, seen in new.items() if n not in ready}
            for name in sorted(ready):
                taken[name] = new[name]
                after = {"taken": dict(taken), "growing": growing}
                if new[name][0] > self.access.max_bytes:
                    yield Delivery(safe_name(name), None, after, refusal=self._too_big(name, new[name][0]))
                    continue
                with _answers(self.access.name):
                    data = listing.read(name, self.access.max_bytes)
                if len(data) > self.access.max_bytes:
                    yield Delivery(safe_name(name), None, after, refusal=self._too_big(name, len(data)))
                elif len(data) == new[name][0]:
                    yield Delivery(safe_name(name), data, after)
                else:
                    # It changed while it was read: the next look finds it again.
                    del taken[name]
            yield Delivery("", None, {"taken": taken, "growing": growing})
        finally:
            listing.close()

    def _too_big(self, name: str, size: int) -> str:
        return f"{name}: {size} bytes or more are over this source's max_bytes of {self.access.max_bytes}; it was not fetched"

    def _open(self) -> Listing:
        with _answers(self.access.name):
            match self.access.protocol:
                case "folder":
                    return LocalFolder(Path(self.access.folder))
                case "sftp":
                    return SftpFolder(self.access)
                case _:
                    return FtpFolder(self.access)


class LocalFolder:
    def __init__(self, folder: Path):
        self.folder = folder

    def files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for path in self.folder.iterdir():
            if path.is_file() and not path.name.startswith("."):
                status = path.stat()
                found[path.name] = (status.st_size, int(status.st_mtime))
        return found

    def read(self, name: str, most: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            return file.read(most + 1)

    def close(self) -> None:
        """Nothing is held."""


class SftpFolder:
    """A folder over SSH. The server must prove a host key of ``known_hosts``; an unknown one is refused."""

    def __init__(self, access: DirectorySource):
        self._client = paramiko.SSHClient()
        self._client.load_host_keys(str(access.known_hosts))
        self._client.set_missing_host_key_policy(paramiko.RejectPolicy())
        self._client.connect(
            access.host,
            port=access.port or 22,
            username=access.user,
            password=read_secret(access.password_file) if access.password_file else None,
            key_filename=str(access.key_file) if access.key_file else None,
            timeout=access.timeout_seconds,
            allow_agent=False,
            look_for_keys=False,
        )
        self._sftp = self._client.open_sftp()
        self._sftp.chdir(access.folder)

    def files(self) -> dict[str, tuple[int, int]]:
        return {
            one.filename: (int(one.st_size or 0), int(one.st_mtime or 0))
            for one in self._sftp.listdir_attr()
            if one.st_mode is not None and one.st_mode & 0o170000 == 0o100000
        }

    def read(self, name: str, most: int) -> bytes:
        with self._sftp.open(name, "rb") as file:
            file.prefetch()
            return bytes(file.read(most + 1))

    def close(self) -> None:
        self._client.close()


class FtpFolder:
    """A folder over FTP with TLS (``ftps``), or without for loggers that know no better (``ftp``)."""

    def __init__(self, access: DirectorySource):
        password = read_secret(access.password_file) if access.password_file else ""
        if access.protocol == "ftps":
            context = ssl.create_default_context(cafile=str(access.ca_file) if access.ca_file else None)
            secure = ftplib.FTP_TLS(timeout=access.timeout_seconds, context=context)
            self._ftp: ftplib.FTP = secure
        else:
            self._ftp = ftplib.FTP(timeout=access.timeout_seconds)
        self._ftp.connect(access.host, access.port or 21)
        self._ftp.login(access.user, password)
        if isinstance(self._ftp, ftplib.FTP_TLS):
            self._ftp.prot_p()
        self._ftp.cwd(access.folder)

    def files(self) -> dict[str, tuple[int, int]]:
        found = {}
        for name, facts in self._ftp.mlsd(facts=["type", "size", "modify"]):
            if facts.get("type") == "file":
                changed = datetime.strptime(facts["modify"][:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                found[name] = (int(facts["size"]), int(changed.timestamp()))
        return found

    def read(self, name: str, most: int) -> bytes:
        parts = bytearray()

        def add(part: bytes) -> None:
            if len(parts) <= most:
                parts.extend(part)

        self._ftp.retrbinary(f"RETR {name}", add)
        return bytes(parts)

    def close(self) -> None:
        self._ftp.close()


# -- HTTP -------------------------------------------------------------------------------------------


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
        with _answers(self.access.name):
            answer = self._session.get(
                url, headers=headers, timeout=self.access.timeout_seconds, stream=True, allow_redirects=False
            )
            with answer:
                if answer.status_code == 304 or (optional and answer.status_code == 404):
                    return None
                if answer.status_code != 200:
                    raise SourceError(f"source {self.access.name}: {_shown(url)} answers HTTP {answer.status_code}")
                data = b"".join(_limited(answer.iter_content(1 << 16), self.access.max_bytes, self.access.name))
        kept = {"etag": answer.headers.get("ETag"), "modified": answer.headers.get("Last-Modified")}
        return data, {key: value for key, value in kept.items() if value}


def _limited(parts: Iterable[bytes], most: int, name: str) -> Iterator[bytes]:
    size = 0
    for part in parts:
        size += len(part)
        if size > most:
            raise SourceError(f"source {name}: the answer is over max_bytes of {most}; nothing of it was taken")
        yield part


def _shown(url: str) -> str:
    """A URL without what may be secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


# -- VCOM -------------------------------------------------------------------------------------------


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
        while begin < now:
            # The service answers for a day at most.
            end = begin + DAY
            data = self._measurements(begin, min(end, now))
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
        return self._ask("GET", url, parameters)

    def _ask(self, method: str, url: str, parameters: Mapping[str, str], renewed: bool = False) -> bytes:
        if "Authorization" not in self._session.headers:
            self._log_in()
        with _answers(self.access.name):
            answer = self._session.request(
                method, url, params=parameters, timeout=self.access.timeout_seconds, allow_redirects=False
            )
        if answer.status_code == 401 and not renewed:
            self._session.headers.pop("Authorization", None)
            return self._ask(method, url, parameters, renewed=True)
        if answer.status_code == 429:
            self._wait(answer)
            return self._ask(method, url, parameters, renewed)
        if answer.status_code != 200:
            raise SourceError(f"source {self.access.name}: {_shown(url)} answers HTTP {answer.status_code}")
        return b"".join(_limited([answer.content], self.access.max_bytes, self.access.name))

    def _log_in(self) -> None:
        form = {
            "grant_type": "password",
            "username": read_secret(self.access.user_file).strip(),
            "password": read_secret(self.access.password_file).strip(),
        }
        with _answers(self.access.name):
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


# -- MQTT -------------------------------------------------------------------------------------------


class Mqtt:
    """Messages of a subscription that the broker keeps between two looks (quality of service 1, a session that lasts).

    A message is written to ``spool`` before it is acknowledged, so that neither side need trust the other's memory. Each look
    makes a CSV file a topic of what is spooled, and ends the spool once the files are kept. A message that is not the JSON it
    should be stands in its row as it came, so that the row is refused and kept with its reason.
    """

    def __init__(self, access: MqttSource, spool: Path):
        self.access, self.spool = access, spool

    def look(self, cursor: Cursor, now: datetime) -> Iterator[Delivery]:
        self.spool.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._receive()
        for topic, payloads in self._spooled().items():
            written = io.StringIO()
            table = csv.writer(written, lineterminator="\n")
            table.writerow(self.access.fields)
            table.writerows(self._row(payload) for payload in payloads)
            data = written.getvalue().encode()
            yield Delivery(safe_name(f"mqtt_{topic}_{hashlib.sha256(data).hexdigest()[:12]}.csv"), data, {})
        self.spool.unlink(missing_ok=True)

    def _receive(self) -> None:
        """Spool what comes until nothing has come for ``idle_seconds``, or ``max_messages`` have."""
        arrived: queue.Queue[None] = queue.Queue()
        answers: queue.Queue[str] = queue.Queue()
        with os.fdopen(os.open(self.spool, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as spool:

            def keep(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
                line = {"topic": message.topic, "payload": message.payload.decode("utf-8", "replace")}
                spool.write(orjson.dumps(line) + b"\n")
                spool.flush()
                os.fsync(spool.fileno())
                client.ack(message.mid, message.qos)
                arrived.put(None)

            client = self._client(answers)
            client.on_message = keep
            with _answers(self.access.name):
                client.connect(self.access.host, self.access.port, keepalive=60)
            client.loop_start()
            try:
                problem = self._answer(answers)
                if problem:
                    raise SourceError(f"source {self.access.name}: {problem}")
                with contextlib.suppress(queue.Empty):
                    for _ in range(self.access.max_messages):
                        arrived.get(timeout=self.access.idle_seconds)
            finally:
                client.disconnect()
                client.loop_stop()

    def _answer(self, answers: queue.Queue[str]) -> str:
        try:
            return answers.get(timeout=self.access.timeout_seconds)
        except queue.Empty:
            return "the broker does not answer"

    def _client(self, answers: queue.Queue[str]) -> mqtt.Client:
        access = self.access
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=access.client_id, clean_session=False, manual_ack=True
        )
        if access.user:
            client.username_pw_set(access.user, read_secret(access.password_file) if access.password_file else None)
        if access.tls:
            client.tls_set(ca_certs=str(access.ca_file) if access.ca_file else None)

        def connected(client: mqtt.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
            if reason.is_failure:
                answers.put(f"the broker refuses: {reason}")
            else:
                client.subscribe(access.topic, qos=1)

        def subscribed(_: mqtt.Client, __: Any, ___: int, reasons: list[Any], ____: Any) -> None:
            failed = [str(reason) for reason in reasons if reason.is_failure]
            answers.put(f"the broker refuses {access.topic}: {failed[0]}" if failed else "")

        client.on_connect, client.on_subscribe = connected, subscribed
        return client

    def _spooled(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for line in self.spool.read_bytes().splitlines():
            # The last line may be torn: it was not acknowledged then and comes again.
            with contextlib.suppress(ValueError):
                message = orjson.loads(line)
                found.setdefault(message["topic"], []).append(message["payload"])
        return found

    def _row(self, payload: str) -> list[str]:
        try:
            document = orjson.loads(payload)
            return [_text(_at(document, path)) for path in self.access.fields.values()]
        except (ValueError, LookupError, TypeError):
            return [payload[:1_000], *([""] * (len(self.access.fields) - 1))]


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        raise TypeError
    return str(value)


# -- errors -----------------------------------------------------------------------------------------


class _answers:
    """Whatever goes wrong between here and a source, as a SourceError that names it and holds no secret."""

    def __init__(self, name: str):
        self.name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _: Any, fault: BaseException | None, __: Any) -> None:
        if isinstance(fault, paramiko.AuthenticationException):
            raise SourceError(f"source {self.name}: the server does not let this user in") from None
        if isinstance(fault, paramiko.BadHostKeyException):
            raise SourceError(f"source {self.name}: the server's host key is not the one of known_hosts") from None
        if isinstance(fault, paramiko.SSHException) and "not found in known_hosts" in str(fault):
            raise SourceError(
                f"source {self.name}: the server's host key is not in known_hosts; add it after checking it"
            ) from None
        if isinstance(fault, FileNotFoundError | NotADirectoryError):
            raise SourceError(f"source {self.name}: {fault.filename or 'its folder'} is not there") from None
        if isinstance(fault, OSError | EOFError | paramiko.SSHException | ftplib.Error | socket.gaierror):
            said = getattr(fault, "strerror", None) or type(fault).__name__
            raise SourceError(f"source {self.name}: no answer ({said})") from None

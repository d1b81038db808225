"""Messages of an MQTT broker."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import queue
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ..config import MqttSource, read_secret
from ..errors import SourceError
from .base import Cursor, Delivery, answers, safe_name


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
        replies: queue.Queue[str] = queue.Queue()
        with os.fdopen(os.open(self.spool, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab+") as spool:
            _end_line(spool)

            def keep(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
                line = {"topic": message.topic, "payload": message.payload.decode("utf-8", "replace")}
                spool.write(orjson.dumps(line) + b"\n")
                spool.flush()
                os.fsync(spool.fileno())
                client.ack(message.mid, message.qos)
                arrived.put(None)

            client = self._client(replies)
            client.on_message = keep
            with answers(self.access.name):
                client.connect(self.access.host, self.access.port, keepalive=60)
            client.loop_start()
            try:
                problem = self._answer(replies)
                if problem:
                    raise SourceError(f"source {self.access.name}: {problem}")
                with contextlib.suppress(queue.Empty):
                    for _ in range(self.access.max_messages):
                        arrived.get(timeout=self.access.idle_seconds)
            finally:
                client.disconnect()
                client.loop_stop()

    def _answer(self, replies: queue.Queue[str]) -> str:
        try:
            return replies.get(timeout=self.access.timeout_seconds)
        except queue.Empty:
            return "the broker does not answer"

    def _client(self, replies: queue.Queue[str]) -> mqtt.Client:
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
                replies.put(f"the broker refuses: {reason}")
            else:
                client.subscribe(access.topic, qos=1)

        def subscribed(_: mqtt.Client, __: Any, ___: int, reasons: list[Any], ____: Any) -> None:
            failed = [str(reason) for reason in reasons if reason.is_failure]
            replies.put(f"the broker refuses {access.topic}: {failed[0]}" if failed else "")

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
            # It refuses deep nesting, which would end the process below: a library lifts Python's recursion limit.
            orjson.loads(payload)
            # Numbers stay the text they came as: a binary float would carry energy.
            document = json.loads(payload, parse_float=str, parse_int=str)
            return [_text(_at(document, path)) for path in self.access.fields.values()]
        except (ValueError, LookupError, TypeError):
            return [payload[:1_000], *([""] * (len(self.access.fields) - 1))]


def _end_line(spool: BinaryIO) -> None:
    """End a line that a power cut tore, so that it does not swallow the message that is written next."""
    if spool.seek(0, os.SEEK_END):
        spool.seek(-1, os.SEEK_END)
        if spool.read(1) != b"\n":
            spool.write(b"\n")


def _at(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        raise TypeError
    return str(value)

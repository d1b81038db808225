"""Sources against real servers: every file once, whatever breaks in between."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as paho
import pytest
import yaml

from oracle import pipeline, sources
from oracle.config import MqttSource, OracleConfig
from oracle.errors import ConfigError, SourceError
from oracle.keys import create_device_key
from oracle.sources.mqtt import Mqtt
from oracle.store import RawFile, SourceState, Store
from tests.oracle import databases, servers
from tests.oracle.test_pipeline import DAY, FIRST, configure, day_rows, device, states

NOW = datetime(2026, 6, 2, 12, tzinfo=UTC)


def secret(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def desk(tmp_path: Path, *accesses, devices=None) -> tuple[OracleConfig, Store]:
    """A configured oracle with these sources and one meter that takes meter-1*.csv."""
    config, store = configure(tmp_path / "oracle", *(devices or [device(1)]))
    document = yaml.safe_load(config.file.read_text())
    config.file.write_text(yaml.safe_dump({**document, "sources": list(accesses)}))
    create_device_key(config.device_keys_folder, 1)
    return OracleConfig.load(config.file), store


def day_file(day: int = 0, slot_wh: int = 100) -> bytes:
    return "\n".join(["time,Wh", *day_rows(day, slot_wh)]).encode() + b"\n"


def taken(collected) -> list[tuple[str, bool]]:
    return [(file.name, file.known) for one in collected for file in one.files]


def problems(collected) -> list[str]:
    return [one.problem for one in collected if one.problem]


def raw_count(store: Store) -> int:
    with store.session() as session:
        return session.query(RawFile).count()


def cursor(store: Store, name: str) -> dict:
    with store.session() as session:
        state = session.get(SourceState, name)
        return dict(state.cursor) if state else {}


def set_cursor(store: Store, name: str, value: dict) -> None:
    with store.session() as session:
        session.get(SourceState, name).cursor = value


# -- folders ----------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "sftp", "ftp", "ftps"])
def directory(request, tmp_path):
    """A folder with its access, through each protocol by a real server: ``(folder, access)``."""
    folder = tmp_path / "outbox"
    folder.mkdir()
    common = {"name": "logger", "kind": request.param, "pattern": "*.csv", "settle_seconds": 60, "timeout_seconds": 10}
    login = {"host": "127.0.0.1", "user": servers.USER, "password_file": secret(tmp_path, "password", servers.PASSWORD)}
    match request.param:
        case "folder":
            yield folder, {**common, "folder": str(folder)}
        case "sftp":
            with servers.sftp(folder, tmp_path / "known_hosts") as port:
                yield (
                    folder,
                    {**common, **login, "port": port, "folder": "/", "known_hosts": str(tmp_path / "known_hosts")},
                )
        case "ftp":
            with servers.ftp(folder) as port:
                yield folder, {**common, **login, "port": port, "folder": "/"}
        case "ftps":
            tls = servers.certificate(tmp_path)
            with servers.ftp(folder, tls) as port:
                yield (
                    folder,
                    {**common, **login, "host": "localhost", "port": port, "folder": "/", "ca_file": str(tls[0])},
                )


def put(folder: Path, name: str, data: bytes, age_seconds: int) -> None:
    (folder / name).write_bytes(data)
    moment = NOW.timestamp() - age_seconds
    os.utime(folder / name, (moment, moment))


def test_collect_folder_takes_settled_files_once_and_changed_ones_again(directory, tmp_path):
    folder, access = directory
    config, store = desk(tmp_path, access)
    put(folder, "meter-1-a.csv", day_file(0), age_seconds=600)
    put(folder, "meter-1-b.csv", day_file(1), age_seconds=5)
    put(folder, "notes.txt", b"not for us", age_seconds=600)
    (folder / "folder.csv").mkdir()

    first = sources.collect(config, store, now=NOW)
    assert (taken(first), problems(first)) == ([("meter-1-a.csv", False)], [])
    # What was young is taken once a second look finds it unchanged.
    second = sources.collect(config, store, now=NOW + timedelta(seconds=10))
    assert taken(second) == [("meter-1-b.csv", False)]
    assert taken(sources.collect(config, store, now=NOW + timedelta(seconds=20))) == []
    put(folder, "meter-1-a.csv", day_file(0) + b"\n".join(row.encode() for row in day_rows(2)) + b"\n", age_seconds=300)
    assert taken(sources.collect(config, store, now=NOW)) == [("meter-1-a.csv", False)]
    (folder / "meter-1-b.csv").unlink()
    sources.collect(config, store, now=NOW)
    assert sorted(cursor(store, "logger")["taken"]) == ["meter-1-a.csv"]
    pipeline.assess_all(config, store)
    assert sorted(states(store)) == [(1, FIRST + n * DAY) for n in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == ["folder.csv", "meter-1-a.csv", "notes.txt"]


def test_collect_file_that_is_refused_is_kept_with_its_reason_and_not_asked_for_again(directory, tmp_path):
    folder, access = directory
    config, store = desk(tmp_path, {**access, "max_bytes": 9_000})
    put(folder, "meter-1.csv", day_file(0), age_seconds=600)
    put(folder, "meter-1-torn.csv", b"time;Wh\n2022", age_seconds=600)
    put(folder, "meter-1-whole-life.csv", b"x" * 9_001, age_seconds=600)
    [collected] = sources.collect(config, store, now=NOW)
    refused = {file.name: file.refusal for file in collected.files if file.refusal}
    assert sorted(refused) == ["meter-1-torn.csv", "meter-1-whole-life.csv"]
    assert "9001 bytes" in refused["meter-1-whole-life.csv"]
    [state] = sources.states(config, store)
    assert {one["file"]: one["reason"] for one in state["refused"]} == refused
    torn = next(one for one in state["refused"] if one["file"] == "meter-1-torn.csv")
    assert (config.raw_folder / "refused" / torn["sha256"]).read_bytes() == b"time;Wh\n2022"
    assert sources.collect(config, store, now=NOW)[0].files == ()
    assert raw_count(store) == 1


def test_collect_folder_that_is_not_there_says_so_and_the_next_source_is_read(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    put(folder, "meter-1.csv", day_file(), age_seconds=600)
    lost = {"name": "lost", "kind": "folder", "folder": str(tmp_path / "nowhere")}
    config, store = desk(tmp_path, lost, {"name": "inbox", "kind": "folder", "folder": str(folder)})
    collected = sources.collect(config, store, now=NOW)
    assert "is not there" in collected[0].problem
    assert taken(collected) == [("meter-1.csv", False)]
    told = sources.states(config, store)
    assert [(one["source"], one["problem"] is None, one["succeeded_at"] is None) for one in told] == [
        ("lost", False, True),
        ("inbox", True, False),
    ]
    with pytest.raises(SourceError, match="no source is called other"):
        sources.collect(config, store, ["other"])


def test_collect_sftp_host_key_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "outbox").mkdir()
    with servers.sftp(tmp_path / "outbox", tmp_path / "known_hosts") as port:
        (tmp_path / "known_hosts").write_text("")
        access = {
            "name": "logger", "kind": "sftp", "host": "127.0.0.1", "port": port, "user": servers.USER, "folder": "/",
            "password_file": secret(tmp_path, "password", servers.PASSWORD), "known_hosts": str(tmp_path / "known_hosts"),
        }  # fmt: skip
        config, store = desk(tmp_path, access)
        assert "host key is not in known_hosts" in problems(sources.collect(config, store, now=NOW))[0]


def test_collect_wrong_password_says_so_without_telling_it(directory, tmp_path):
    _, access = directory
    if access["kind"] == "folder":
        return
    secret(tmp_path, "password", "something else")
    config, store = desk(tmp_path, access)
    [problem] = problems(sources.collect(config, store, now=NOW))
    assert "logger" in problem
    assert "something else" not in problem


class OddServer(socketserver.StreamRequestHandler):
    """Speaks FTP; lists what ``listing`` says and gives one file, day_file(), by whatever name, but for that of ``closed``."""

    listing = b"type=file; meter-1.csv\r\n"
    closed = b"meter-1-closed.csv"

    def handle(self):
        def say(text):
            self.wfile.write(text.encode() + b"\r\n")

        def give(data):
            say("150 here it comes")
            connection, _ = listener.accept()
            connection.sendall(data)
            connection.close()
            listener.close()
            say("226 done")

        say("220 ready")
        for line in self.rfile:
            match line.split()[0].upper():
                case b"USER":
                    say("331 password")
                case b"PASV":
                    listener = socket.create_server(("127.0.0.1", 0))
                    high, low = divmod(listener.getsockname()[1], 256)
                    say(f"227 (127,0,0,1,{high},{low})")
                case b"MLSD":
                    give(self.listing)
                case b"RETR" if line.split()[1] == self.closed:
                    listener.close()
                    say("550 permission denied")
                case b"RETR":
                    give(day_file())
                case _:
                    say("230 go on")


class ClosedFileServer(OddServer):
    facts = b"type=file;size=%d;modify=20260601000000; " % len(day_file())
    listing = facts + b"meter-1-closed.csv\r\n" + facts + b"meter-1-open.csv\r\n"


@contextlib.contextmanager
def answering_as(server_class):
    """The port of such a server."""
    with socketserver.TCPServer(("127.0.0.1", 0), server_class) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def odd_access(tmp_path, port):
    return {
        "name": "odd", "kind": "ftp", "host": "127.0.0.1", "port": port, "user": servers.USER, "folder": "/",
        "password_file": secret(tmp_path, "password", servers.PASSWORD), "timeout_seconds": 10,
    }  # fmt: skip


def test_collect_file_that_may_not_be_read_holds_up_no_other(tmp_path):
    with answering_as(ClosedFileServer) as port:
        config, store = desk(tmp_path, odd_access(tmp_path, port))
        first, again = (sources.collect(config, store, now=NOW) for _ in range(2))
    assert taken(first) == [("meter-1-open.csv", False)] and taken(again) == []
    # It is asked for again at each look, until it opens.
    assert problems(first) == problems(again) == ["source odd: may not read 'meter-1-closed.csv'"]


def test_collect_ftp_server_that_lists_files_without_size_is_told_and_the_next_source_is_read(tmp_path):
    (tmp_path / "inbox").mkdir()
    put(tmp_path / "inbox", "meter-1.csv", day_file(), age_seconds=600)
    with answering_as(OddServer) as port:
        inbox = {"name": "inbox", "kind": "folder", "folder": str(tmp_path / "inbox")}
        config, store = desk(tmp_path, odd_access(tmp_path, port), inbox)
        collected = sources.collect(config, store, now=NOW)
    assert problems(collected) == ["source odd: the answer is not understood (KeyError)"]
    assert taken(collected) == [("meter-1.csv", False)]


# -- crashes ----------------------------------------------------------------------------------------

KILLED = """
import sys
from datetime import UTC, datetime
from oracle import sources
from oracle.config import OracleConfig
from oracle.store import Store
config = OracleConfig.load(sys.argv[1])
sources.collect(config, Store.open(config.database_url), now=datetime(2026, 6, 2, 12, tzinfo=UTC))
"""


# Point 16 lies before the database is asked.
@pytest.mark.parametrize(
    ("database", "point"), [("sqlite", 16), *((kind, 17) for kind in databases.KINDS)], indirect=["database"]
)
def test_collect_killed_while_a_file_is_taken_takes_it_once_when_run_again(point, tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    for day in range(3):
        put(folder, f"meter-1-{day}.csv", day_file(day), age_seconds=600)
    config, store = desk(tmp_path, {"name": "inbox", "kind": "folder", "folder": str(folder)})
    command = [sys.executable, "-c", KILLED, str(config.file)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "CRASH_AT": str(point),
    }
    killed = subprocess.run(command, env=environment, capture_output=True, timeout=120)
    assert killed.returncode != 0
    assert cursor(store, "inbox") == {}
    again = sources.collect(config, store, now=NOW)
    assert [name for name, _ in taken(again)] == ["meter-1-0.csv", "meter-1-1.csv", "meter-1-2.csv"]
    assert raw_count(store) == 3
    assert sources.collect(config, store, now=NOW)[0].files == ()


@databases.both
def test_collect_when_the_cursor_was_not_kept_changes_nothing(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    put(folder, "meter-1.csv", day_file(), age_seconds=600)
    config, store = desk(tmp_path, {"name": "inbox", "kind": "folder", "folder": str(folder)})
    sources.collect(config, store, now=NOW)
    set_cursor(store, "inbox", {})
    assert taken(sources.collect(config, store, now=NOW)) == [("meter-1.csv", True)]
    assert raw_count(store) == 1


LOOKING = """
import sys
from oracle import sources
from oracle.config import OracleConfig
config = OracleConfig.load(sys.argv[1])
with sources.alone(config, "inbox") as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""


def test_collect_while_another_process_looks_leaves_the_source_to_it(tmp_path):
    folder = tmp_path / "inbox"
    folder.mkdir()
    put(folder, "meter-1.csv", day_file(), age_seconds=600)
    config, store = desk(tmp_path, {"name": "inbox", "kind": "folder", "folder": str(folder)})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    command = [sys.executable, "-c", LOOKING, str(config.file)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        assert problems(sources.collect(config, store, now=NOW)) == ["another process is looking at it"]
        assert raw_count(store) == 0
        assert config.raw_folder.stat().st_mode & 0o777 == 0o700
        other.kill()
    assert taken(sources.collect(config, store, now=NOW)) == [("meter-1.csv", False)]


# -- HTTP -------------------------------------------------------------------------------------------


def test_collect_http_fetches_only_what_has_changed(tmp_path):
    content, asked = [day_file(0)], []

    def answer(request):
        asked.append((request.path, request.headers.get("Authorization")))
        return 200, {}, content[0]

    with servers.http(answer) as url:
        headers = secret(tmp_path, "headers", "Authorization: Bearer abc\n")
        access = {"name": "portal", "kind": "http", "url": f"{url}/export/meter-1.csv", "headers_file": headers}
        config, store = desk(tmp_path, access)
        assert taken(sources.collect(config, store)) == [("meter-1.csv", False)]
        assert taken(sources.collect(config, store)) == []
        content[0] = day_file(0) + b"\n".join(row.encode() for row in day_rows(1)) + b"\n"
        assert taken(sources.collect(config, store)) == [("meter-1.csv", False)]
    assert asked == [("/export/meter-1.csv", "Bearer abc")] * 3
    assert "no answer" in problems(sources.collect(config, store))[0]


@databases.both
def test_collect_http_by_day_ends_days_in_order_and_asks_late_ones_again(tmp_path):
    files = {"2026-05-30": day_file(0), "2026-06-01": day_file(1), "2026-06-02": day_file(2)[:2_000]}
    asked: list[str] = []

    def answer(request):
        day = request.path.rpartition("/")[2]
        asked.append(day)
        return (200, {}, files[day]) if day in files else (404, {}, b"")

    with servers.http(answer) as url:
        access = {
            "name": "portal", "kind": "http", "url": f"{url}/days/{{date}}", "since": date(2026, 5, 30),
            "file": "meter-1_{date}.csv",
        }  # fmt: skip
        config, store = desk(tmp_path, access)
        first = taken(sources.collect(config, store, now=NOW))
        assert [name for name, _ in first] == [f"meter-1_{day}.csv" for day in files]
        assert asked == ["2026-05-30", "2026-05-31", "2026-06-01", "2026-06-02"]
        assert cursor(store, "portal")["day"] == "2026-06-02"
        files["2026-06-02"] = day_file(2)
        asked.clear()
        later = taken(sources.collect(config, store, now=NOW + timedelta(days=1)))
        assert [name for name, _ in later] == ["meter-1_2026-06-02.csv"]
        assert asked == ["2026-06-02", "2026-06-03"]
        assert cursor(store, "portal")["day"] == "2026-06-03"


def test_collect_http_answer_over_the_limit_is_not_taken(tmp_path):
    with servers.http(lambda _: (200, {}, b"x" * 5_000)) as url:
        access = {"name": "portal", "kind": "http", "url": f"{url}/meter-1.csv", "max_bytes": 4_000}
        config, store = desk(tmp_path, access)
        [problem] = problems(sources.collect(config, store))
    assert "max_bytes of 4000" in problem
    assert raw_count(store) == 0


# -- MQTT -------------------------------------------------------------------------------------------


def publish(port: int, *messages: tuple[str, bytes]) -> None:
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(servers.USER, servers.PASSWORD)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, payload in messages:
        client.publish(topic, payload, qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def readings(slots) -> list[tuple[str, bytes]]:
    rows = [row.rpartition(",") for row in day_rows(0)]
    return [
        ("plant/1/energy", json.dumps({"at": rows[n][0], "values": [{"wh": int(rows[n][2])}]}).encode()) for n in slots
    ]


def mqtt_access(port: int, tmp_path: Path) -> dict:
    return {
        "name": "broker", "kind": "mqtt", "host": "127.0.0.1", "port": port, "tls": False, "client_id": "wattmark-test",
        "user": servers.USER, "password_file": secret(tmp_path, "password", servers.PASSWORD), "topic": "plant/+/energy", "fields": {"time": "at", "Wh": "values.0.wh"}, "idle_seconds": 1, "timeout_seconds": 10,
    }  # fmt: skip


def test_collect_mqtt_takes_what_waited_and_acknowledges_once_it_is_kept(tmp_path, monkeypatch):
    meter = device(1)
    meter["file"] = {**meter["file"], "names": ["mqtt_plant_1_energy_*.csv"]}
    with servers.mqtt(tmp_path) as port:
        config, store = desk(tmp_path, mqtt_access(port, tmp_path), devices=[meter])
        # The subscription is made by the first look; from then on the broker keeps what comes.
        assert sources.collect(config, store)[0].to_json() == {"source": "broker", "files": [], "problem": None}
        publish(port, *readings(range(40)))

        with monkeypatch.context() as broken:
            broken.setattr(sources, "take_bytes", crashing)
            with pytest.raises(RuntimeError, match="power cut"):
                sources.collect(config, store)
        publish(port, *readings(range(40, 96)), ("plant/1/energy", b"{not json"))
        [collected] = sources.collect(config, store)
        assert collected.problem is None
        [file] = collected.files
        assert (file.used, [row.line for row in file.refused]) == (96, [98])
        assert sources.collect(config, store)[0].files == ()
    pipeline.assess_all(config, store)
    assert len(states(store)) == 1
    with store.session() as session:
        [row] = session.query(pipeline.DeviceDay)
        assert row.energy_wh == 2_412


def test_collect_mqtt_message_after_a_line_that_a_power_cut_tore_is_kept(tmp_path):
    meter = device(1)
    meter["file"] = {**meter["file"], "names": ["mqtt_plant_1_energy_*.csv"]}
    with servers.mqtt(tmp_path) as port:
        config, store = desk(tmp_path, mqtt_access(port, tmp_path), devices=[meter])
        sources.collect(config, store)
        spool = config.raw_folder / "spool" / "broker"
        spool.write_bytes(b'{"topic":"plant/1/energy","payload":"{\\"at\\":\\"2022-06')
        publish(port, *readings(range(60, 62)))
        [collected] = sources.collect(config, store)
    [file] = collected.files
    assert (file.used, file.energy_wh, file.refused) == (2, 201, ())


def test_collect_mqtt_number_is_taken_as_its_text(tmp_path):
    """A binary float of these sixteen digits and more would lose the last three."""
    stamp = day_rows(0)[60].rpartition(",")[0]
    payload = b'{"at": "%s", "values": [{"wh": 2222222222222.222222}]}' % stamp.encode()
    source = Mqtt(MqttSource("broker", 1, 1, "", 1, "", "", {"time": "at", "Wh": "values.0.wh"}), tmp_path / "spool")
    assert source._row(payload.decode()) == [stamp, "2222222222222.222222"]
    nested = "[" * 100_000
    assert source._row(nested) == [nested[:1_000], ""]
    assert source._row('{"at": "x", "values": [{"wh": NaN}]}')[1] == ""


def crashing(*_):
    raise RuntimeError("power cut")


# -- VCOM -------------------------------------------------------------------------------------------


class VcomReplay:
    """The service as its documentation describes it: login, bearer tokens that end, a limit, a day's measurements at most."""

    def __init__(self):
        self.asked: list[dict[str, str]] = []
        self.logins = 0
        self.tokens: set[str] = set()
        self.limited = 0
        self.lock = threading.Lock()

    def __call__(self, request):
        with self.lock:
            parts = urlsplit(request.path)
            if request.headers.get("X-API-KEY") != "the key":
                return 401, {}, b'{"message": "Invalid API key"}'
            if parts.path == "/v2/login":
                form = {key: value[0] for key, value in parse_qs(request.body.decode()).items()}
                if form != {"grant_type": "password", "username": "user", "password": "pass word"}:
                    return 401, {}, b"{}"
                self.logins += 1
                self.tokens = {f"token-{self.logins}"}
                return 200, {}, json.dumps({"access_token": f"token-{self.logins}", "refresh_token": "r"}).encode()
            if request.headers.get("Authorization", "").removeprefix("Bearer ") not in self.tokens:
                return 401, {}, b"{}"
            if self.limited:
                self.limited -= 1
                return 429, {"X-RateLimit-Remaining-Minute": "0", "X-RateLimit-Reset-Minute": "1"}, b"{}"
            query = {key: value[0] for key, value in parse_qs(parts.query).items()}
            begin, end = (datetime.fromisoformat(query[key]) for key in ("from", "to"))
            if parts.path != "/v2/systems/ABC12/bulk/measurements" or end - begin > timedelta(days=1):
                return 400, {}, b"{}"
            self.asked.append(query)
            return (
                200,
                {},
                json.dumps({"meters": {begin.isoformat(): {"7": {"E_INT": 1.0, "E_INT_interval": 900}}}}).encode(),
            )


@pytest.fixture
def vcom(tmp_path):
    replay = VcomReplay()
    with servers.http(replay) as url:
        yield replay, {
            "name": "vcom", "kind": "vcom", "url": f"{url}/v2", "system": "ABC12", "since": date(2026, 5, 31),
            "api_key_file": secret(tmp_path, "api-key", "the key\n"), "user_file": secret(tmp_path, "user", "user\n"),
            "password_file": secret(tmp_path, "password", "pass word\n"),
        }  # fmt: skip


@databases.both
def test_collect_vcom_asks_a_day_at_a_time_and_goes_on_where_it_stopped(vcom, tmp_path):
    replay, access = vcom
    meter = device(1)
    meter["file"] = {**meter["file"], "names": ["vcom_ABC12_*.json"]}
    config, store = desk(tmp_path, access, devices=[meter])
    replay.limited = 1
    collected = sources.collect(config, store, now=NOW)
    assert problems(collected) == []
    assert [name for name, _ in taken(collected)] == [
        f"vcom_ABC12_{day}.json" for day in ("20260531", "20260601", "20260602")
    ]
    windows = [(one["from"], one["to"]) for one in replay.asked]
    assert windows == [
        ("2026-05-31T00:00:00+00:00", "2026-05-31T23:59:59+00:00"),
        ("2026-06-01T00:00:00+00:00", "2026-06-01T23:59:59+00:00"),
        ("2026-06-02T00:00:00+00:00", "2026-06-02T11:59:59+00:00"),
    ]
    assert {(one["format"], one["resolution"], one["precision"], one["includeInterval"]) for one in replay.asked} == {
        ("json", "fifteen-minutes", "4", "1")
    }
    assert cursor(store, "vcom") == {"from": "2026-06-02T00:00:00+00:00"}
    replay.asked.clear()
    # The token has ended: the client logs in again, and the unfinished day is asked for again.
    replay.tokens.clear()
    sources.collect(config, store, now=NOW + timedelta(hours=1))
    assert [one["from"] for one in replay.asked] == ["2026-06-02T00:00:00+00:00"]
    # The first look of each client logs in; the second one found its token ended.
    assert replay.logins == 2


def test_collect_vcom_asks_for_whole_intervals_alone(vcom, tmp_path):
    replay, access = vcom
    config, store = desk(tmp_path, {**access, "since": date(2026, 6, 2)})
    sources.collect(config, store, now=NOW + timedelta(minutes=14, seconds=59))
    sources.collect(config, store, now=NOW + timedelta(minutes=15))
    assert [one["to"][11:19] for one in replay.asked] == ["11:59:59", "12:14:59"]


def test_collect_vcom_limit_that_never_ends_ends_the_look(vcom, tmp_path, monkeypatch):
    replay, access = vcom
    config, store = desk(tmp_path, access)
    replay.limited = 1_000_000
    waited = []
    monkeypatch.setattr("oracle.sources.vcom.time.sleep", waited.append)
    [problem] = problems(sources.collect(config, store, now=NOW))
    assert problem.endswith("/v2/systems/ABC12/bulk/measurements answers HTTP 429")
    assert waited == [1] * 5


def test_collect_vcom_wrong_key_is_a_problem_that_names_the_source_alone(vcom, tmp_path):
    _, access = vcom
    config, store = desk(tmp_path, access)
    secret(tmp_path, "api-key", "another key")
    [problem] = problems(sources.collect(config, store, now=NOW))
    assert problem == "source vcom: the service does not let this user in (HTTP 401)"


# -- configuration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ({"name": "x", "kind": "pigeon"}, "folder, sftp, ftps, ftp, http, mqtt or vcom"),
        ({"name": "x", "kind": "folder"}, "folder must be a text"),
        ({"name": "x", "kind": "folder", "folder": "a", "colour": 1}, "unknown key sources"),
        ({"name": "x", "kind": "http", "url": "ftp://a/b"}, "is not an http"),
        ({"name": "x", "kind": "http", "url": "http://a/{date}"}, "since must be a date"),
        ({"name": "x", "kind": "mqtt", "host": "a", "client_id": "b", "topic": "c"}, "fields must be a mapping"),
        ({"name": "x", "kind": "sftp", "host": "a", "user": "b", "folder": "c"}, "known_hosts must be a text"),
    ],
    ids=lambda value: value.get("kind", "") if isinstance(value, dict) else "",
)
def test_load_source_that_cannot_be_read_names_key_and_expectation(access, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        desk(tmp_path, access)


def test_collect_secret_that_others_may_read_is_refused(tmp_path):
    with servers.http(lambda _: (200, {}, b"")) as url:
        file = secret(tmp_path, "headers", "A: b")
        Path(file).chmod(0o644)
        config, store = desk(tmp_path, {"name": "x", "kind": "http", "url": f"{url}/meter-1.csv", "headers_file": file})
        with pytest.raises(ConfigError, match="chmod 600"):
            sources.collect(config, store)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a\x00b", "..", "x" * 400, "día ☀.csv"])
def test_safe_name_never_names_a_place(name):
    made = sources.safe_name(name)
    assert made
    assert "/" not in made
    assert not made.startswith(".")
    assert len(made) <= 200
    assert made.isascii()

"""The command line as a person or a script calls it: exit codes, one line for an error, progress on a terminal."""

import contextlib
import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from oracle import cli
from oracle.errors import ConfigError
from tests.oracle.test_pipeline import ROOT, configure, day_rows, device, write


def call(folder, *arguments, **environment):
    """Run a command in ``folder`` as ``python -m oracle`` would, in this process to save its start."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        code = 0
        try:
            cli.main([str(one) for one in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def process(folder, *arguments, **options):
    """``python -m oracle`` as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "120"}
    return subprocess.Popen([sys.executable, "-m", "oracle", *arguments], cwd=folder, env=environment, **options)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A configured oracle with a key for its device and a reviewer's key; ``in/`` holds two whole days and a part."""
    folder = tmp_path_factory.mktemp("template")
    configure(folder, device(1))
    assert call(folder, "keys", "device", "1").returncode == 0
    made = call(folder, "keys", "create", "--keystore", "review.json", "--password-file", "password", "--json")
    config = folder / "wattmark.yaml"
    document = yaml.safe_load(config.read_text())
    document["sites"] = "sites.yaml"
    document["database"] = "sqlite:///oracle.db"  # relative, so that a copy has its own
    document["reviewers"] = [json.loads(made.stdout)["address"]]
    document["review_key"] = {"keystore": "review.json", "password_file": "password"}
    config.write_text(yaml.safe_dump(document))
    write(folder / "in", "meter-1.csv", day_rows(0), day_rows(1), day_rows(2, slots=range(3, 96)))
    return folder


@pytest.fixture
def folder(template, tmp_path):
    shutil.copytree(template, tmp_path / "oracle")
    return tmp_path / "oracle"


def test_ingest_review_seal_and_reports_from_the_shell(folder):
    ingested = call(folder, "ingest", "in", "--json")
    assert (ingested.returncode, ingested.stderr) == (0, "")
    facts = json.loads(ingested.stdout)
    assert facts["device_days"] == {"held": 1, "accepted": 2}
    assert facts["files"][0]["used"] == 285

    [held] = json.loads(call(folder, "review", "list", "--json").stdout)
    assert (held["day"], held["missing_slots"], held["energy_wh"]) == ("2022-06-03", 3, 2_412)
    accepted = call(folder, "review", "accept", "1", "2022-06-03", "--reason", "restart at night")
    assert (accepted.returncode, accepted.stdout) == (0, "device 1 2022-06-03 is accepted\n")

    [sealed] = json.loads(call(folder, "seal", "--json").stdout)
    assert (sealed["statements"], sealed["energy_wh"]) == (3, 3 * 2_412)
    assert json.loads(call(folder, "seal", "--json").stdout) == []
    assert "nothing to seal" in call(folder, "seal").stdout

    status = json.loads(call(folder, "status", "--json").stdout)
    assert status["last_batch"]["root"] == sealed["root"]
    lines = list(csv.DictReader(io.StringIO(call(folder, "gaps", "--csv").stdout)))
    assert [(line["day"], line["state"], line["root"]) for line in lines] == [
        (f"2022-06-0{day}", "sealed", sealed["root"]) for day in (1, 2, 3)
    ]
    assert json.loads(call(folder, "gaps", "--json", "--state", "held").stdout) == []
    slots = list(csv.DictReader(io.StringIO(call(folder, "export", "--device", "1").stdout)))
    assert (
        len(slots) == 288 and sum(int(slot["energy_wh"]) for slot in slots if slot["certified"] == "True") == 3 * 2_412
    )
    for table in ("status", "gaps", "review list"):
        shown = call(folder, *table.split())
        # There is no chain here, and status says so.
        assert shown.returncode == (9 if table == "status" else 0) and shown.stdout


def test_ingest_dry_run_prints_the_agreed_fields_and_needs_no_database(folder):
    done = call(folder, "ingest", "--dry-run", "in/meter-1.csv", "--json")
    assert json.loads(done.stdout) == {
        "format": "csv",
        "devices": [1],
        "slots": 285,
        "energy_wh": 3 * 2_412,
        "refused": [],
    }
    assert not (folder / "raw").exists()
    assert json.loads(call(folder, "status", "--json").stdout)["files"] == 0


def test_ingest_dry_run_of_files_that_are_refused_prints_each_with_line_and_reason_and_goes_on(tmp_path):
    folder = tmp_path / "in"
    write(folder, "a.csv", ["2022-06-01T00:00:00+00:00,5", "2022-06-01T00:15:00+00:00,6"], header="time,energy (Wh)")
    (folder / "b.csv").write_bytes(b"100,NEM12,202206010000,M,R\n200,,B1,B1,B1,N1,S,kWh,15,\n900\n")
    (folder / "c.bin").write_bytes(bytes(range(256)) * 20)
    (folder / "d.csv").write_text('time,Wh\n"2022-06-01T00:00:00+00:00,5\n')
    (folder / "e.csv").touch()
    done = call(tmp_path, "ingest", "--dry-run", "in", "--json")
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 4
    taken, *refused = json.loads(done.stdout)
    assert (taken["format"], taken["slots"], taken["energy_wh"], taken["refused"]) == ("csv", 2, 11, [])
    rows = [one.pop("refused") for one in refused]
    assert refused == [{"format": None, "devices": [], "slots": 0, "energy_wh": 0}] * 4
    assert rows[0][0]["line"] == 2 and "field NMI" in rows[0][0]["reason"]
    assert all(row["reason"] for [row] in rows)
    os.mkfifo(tmp_path / "pipe.csv")
    [row] = json.loads(call(tmp_path, "ingest", "--dry-run", "pipe.csv", "--json").stdout)["refused"]
    assert "no regular file" in row["reason"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["status"], 2, "config.yaml is not there"),
        (["--config", "wattmark.yaml", "ingest", "other.csv"], 3, "no source takes a file of this name"),
        (["--config", "wattmark.yaml", "ingest", "--dry-run", "other.csv"], 3, "no source takes a file of this name"),
        (["--config", "wattmark.yaml", "notarize"], 2, "no address book"),
        (
            ["--config", "wattmark.yaml", "review", "accept", "9", "2022-06-01", "--reason", "x"],
            7,
            "there is no device-day",
        ),
        (["--config", "wattmark.yaml", "review", "accept", "1", "June", "--reason", "x"], 2, "is not a day"),
        (["--config", "wattmark.yaml", "check"], 2, "no address book"),
        (["--config", "wattmark.yaml", "keys", "device", "1"], 2, "never overwritten"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_command_that_fails_has_its_exit_code_and_one_clear_line(folder, arguments, code, said):
    write(folder, "other.csv", day_rows())
    done = call(folder, *arguments, WATTMARK_CONFIG="config.yaml")
    assert done.returncode == code
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 4


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["ingest", "in"], {"raw_folder": "taken/raw"}),
        (["ingest", "in"], {"raw_folder": "/proc/none"}),
        (["seal"], {"archive_folder": "taken/archive"}),
        (["keys", "device", "7"], {"device_keys_folder": "taken/keys"}),
        (["keys", "create", "--keystore", "/proc/none.json", "--password-file", "secret"], {}),
        (["gaps", "--svg", "taken/gaps.svg"], {}),
        (["--log-file", "taken/log", "status"], {}),
    ],
)
def test_command_path_that_cannot_be_made_names_it_and_the_mend(folder, arguments, settings):
    """``taken`` is a file where a folder should be, and nobody may write below ``/proc``."""
    assert call(folder, "ingest", "in").returncode == 0
    config = folder / "wattmark.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | settings))
    (folder / "taken").touch()
    write(folder / "in", "meter-1.csv", day_rows(5))
    done = call(folder, *arguments)
    [line] = done.stderr.splitlines()
    assert done.returncode == 2 and line.startswith("error: ")
    assert "taken" in line or "/proc/none" in line
    assert "name another" in line and "Errno" not in line and "--debug" not in line


def test_command_disk_is_full_says_so_and_that_room_is_the_mend(folder):
    """The kernel's own full disk, ``/dev/full``: a log of it is refused at the first line."""
    done = call(folder, "--log-file", "/dev/full", "ingest", "in")
    assert (done.returncode, done.stderr) == (1, "error: No space left on device; make room and run again\n")


def test_command_as_a_process_ends_with_the_code_of_its_error_and_debug_shows_where(folder):
    with process(folder, "--config", "nowhere.yaml", "status", stderr=subprocess.PIPE, text=True) as quiet:
        said = quiet.communicate(timeout=60)[1]
    assert quiet.returncode == 2
    assert said == f"error: {folder}/nowhere.yaml is not there; docs/oracle.md shows one to start from\n"
    with pytest.raises(ConfigError):
        call(folder, "--debug", "--config", "nowhere.yaml", "status")


def test_logs_and_errors_carry_neither_keys_nor_readings(folder):
    """Everything printed or logged over a whole run, searched for the secrets of this folder."""
    said = ""
    for arguments in (
        ["ingest", "in"],
        ["review", "accept", "1", "2022-06-03", "--reason", "x"],
        ["seal"],
        ["keys", "show"],
        ["notarize"],
    ):
        done = call(folder, "--verbose", *arguments)
        said += done.stdout + done.stderr
    done = call(folder, "--log-file", "oracle.log", "ingest", "in")
    log = (folder / "oracle.log").read_text()
    assert "file taken" in said and done.stderr == ""
    secrets = [(folder / "password").read_text().strip(), (folder / "keys" / "1.key").read_bytes().hex()]
    secrets.append(json.loads((folder / "review.json").read_text())["crypto"]["ciphertext"])
    assert not [secret for secret in secrets if secret in said + log]


@pytest.mark.parametrize(
    "command", [(), *[(name,) for name in cli.cli.commands], ("review", "accept"), ("keys", "create")]
)
def test_help_of_every_command_has_an_example(command):
    shown = CliRunner().invoke(cli.cli, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example: python -m oracle" in shown.output


@pytest.mark.parametrize("command", sorted(set(cli.cli.commands) - {"witness", "review", "keys"}))
def test_every_command_speaks_json(command):
    assert "--json" in CliRunner().invoke(cli.cli, [command, "--help"]).output


def test_shown_hostile_text_cannot_steer_a_terminal():
    assert cli.shown("\x1b[2Jred\u202etxt\r[bold]").plain == "\ufffd[2Jred\ufffdtxt\ufffd[bold]"


def test_progress_on_a_terminal_shows_rate_and_time_left(folder):
    """A real pseudo-terminal on standard error; standard output stays clean."""
    leader, follower = pty.openpty()
    with process(folder, "ingest", "in", stdout=subprocess.PIPE, stderr=follower, start_new_session=True) as running:
        os.close(follower)
        seen = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            seen += piece
        output, _ = running.communicate(timeout=60)
    os.close(leader)
    text = seen.decode(errors="replace")
    assert "assessing device-days" in text and "3/3" in text and "0:00:00" in text
    assert b"assessing" not in output and b"meter-1.csv" in output


def test_seal_private_key_of_the_device_missing_says_how_to_make_it(folder):
    (folder / "keys" / "1.key").unlink()
    call(folder, "ingest", "in")
    done = call(folder, "seal")
    assert done.returncode == 2
    assert "1.key: is not there" in done.stderr and "keys --help" in done.stderr
    assert not (folder / "archive").exists()

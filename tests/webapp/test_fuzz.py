"""Schemathesis over the published OpenAPI, in its own environment: whatever is asked, no answer is a fault of ours or undocumented."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from waitress import create_server

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(os.environ.get("WATTMARK_SCHEMATHESIS", ROOT / ".wattmark" / "env" / "api" / "bin" / "schemathesis"))
SECONDS = int(os.environ.get("WATTMARK_FUZZ_SECONDS", "45"))


@pytest.mark.slow
@pytest.mark.skipif(
    not COMMAND.exists() and not os.environ.get("CI"), reason="no schemathesis: ./run setup api makes its environment"
)
def test_api_asked_anything_answers_as_documented(app, w, tmp_path):
    server = create_server(app, host="127.0.0.1", port=w.free_port(), threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.effective_port}/api/v1/openapi.json"
    # A filter that names nothing is an empty one, not an error: what is refused is tested by itself (test_tables).
    # Addresses and hashes are of so many that none made up is there: 404 is a right answer to a request of the right form.
    command = [
        str(COMMAND), "run", url, "--checks", "all", "--exclude-checks", "positive_data_acceptance,negative_data_rejection", "--max-examples", "8",
        "--phases", "examples,coverage,fuzzing", "--max-time", str(SECONDS), "--seed", "1", "--generation-database", "none",
        "--no-color",
    ]  # fmt: skip
    try:
        environment = {**os.environ, "HTTP_PROXY": "", "HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1", "COLUMNS": "160"}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS + 60
        )
    finally:
        server.close()
        thread.join(10)
    print(done.stdout[-6_000:])
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]

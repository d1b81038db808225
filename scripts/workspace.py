"""Copies of the contracts for tools that want a project of forge's, kept in the state folder.

A copy may be altered: every gate on the contracts shows on a planted bug that it looks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scripts.compile import ROOT, SETTINGS, SOLC_VERSION, STATE

PACKAGES = STATE / "node" / "node_modules"
FOUNDRY = """\
[profile.default]
src = "{src}"
test = "tests"
script = "scripts"
out = "out"
libs = ["node_modules"]
remappings = ["@openzeppelin/=node_modules/@openzeppelin/"]
auto_detect_remappings = false
solc = "{solc}"
offline = true
evm_version = "{evm}"
optimizer = true
optimizer_runs = {runs}
bytecode_hash = "none"
cbor_metadata = false
allow_paths = ["{packages}"]

[lint]
lint_on_build = false
"""


# Open for the life of this process: one process at a time uses a copy.
_LOCKS: dict[str, IO[str]] = {}


class WorkspaceError(Exception):
    """A copy cannot be made or does not compile; the text is the tool's own."""


@dataclass(frozen=True)
class Plant:
    """A bug: in `file` (a path below the copy) the only occurrence of `old` becomes `new`."""

    file: str
    old: str
    new: str


def workspace(name: str, sources: Iterable[str], src: str, plants: Iterable[Plant] = ()) -> Path:
    """A forge project `.wattmark/proofs/<name>` over copies of the checkout's `sources`, folders or files; `src` is what it
    builds. Its code carries no metadata, so that equal code is equal text.

    Files that did not change are left alone, so that forge compiles only what did. Raises WorkspaceError if a plant
    does not fit its file, or if the npm packages are missing.
    """
    if not PACKAGES.is_dir():
        raise WorkspaceError("the npm packages are not installed; mend: ./run setup node")
    folder = STATE / "proofs" / name
    _claim(name)
    wanted = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for source in sources
        for path in ([ROOT / source] if source.endswith(".sol") else sorted((ROOT / source).rglob("*.sol")))
    }
    for plant in plants:
        if wanted[plant.file].count(plant.old) != 1:
            raise WorkspaceError(
                f"{plant.file}: the text to plant a bug in occurs {wanted[plant.file].count(plant.old)} times, "
                f"not once: {plant.old!r}"
            )
        wanted[plant.file] = wanted[plant.file].replace(plant.old, plant.new)
    solc = os.environ.get("WATTMARK_SOLC") or STATE / "solc" / f"solc-v{SOLC_VERSION}"
    wanted["foundry.toml"] = FOUNDRY.format(
        src=src, solc=solc, evm=SETTINGS["evmVersion"], runs=SETTINGS["optimizer"]["runs"], packages=PACKAGES
    )
    for present in [*folder.glob("contracts/**/*.sol"), *folder.glob("tests/**/*.sol")]:
        if present.relative_to(folder).as_posix() not in wanted:
            present.unlink()
    for path, text in wanted.items():
        file = folder / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    link = folder / "node_modules"
    if not link.is_symlink():
        link.symlink_to(PACKAGES)
    return folder


def _claim(name: str) -> None:
    if name in _LOCKS:
        return
    path = STATE / "lock" / f"proofs-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = path.open("w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        handle.close()
        raise WorkspaceError(f"another run uses the copy {name!r}; wait until it has ended") from error
    _LOCKS[name] = handle


def build(folder: Path, *options: str) -> None:
    """`forge build` in a workspace. Raises WorkspaceError with the compiler's errors."""
    forge = shutil.which("forge")
    if forge is None:
        raise WorkspaceError("forge is not on PATH; ./run puts it there")
    done = subprocess.run([forge, "build", *options], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise WorkspaceError((done.stderr + done.stdout).strip()[-4000:])

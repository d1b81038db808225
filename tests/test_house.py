"""The house rules, each by a checker that takes a tree, and each checker shown to look on a planted breach."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = bool(os.environ.get("CI"))

LAYERS = (
    {"domain", "errors", "units", "protocol"},
    {
        "formats",
        "sections",
        "policies",
        "sites",
        "sun",
        "vee",
        "corroboration",
        "estimation",
        "balance",
        "assessment",
        "drift",
        "agreement",
        "merkle",
        "verify",
        "messages",
    },
    {
        "archive",
        "slotcache",
        "store",
        "contracts",
        "onchain",
        "nodes",
        "chain",
        "config",
        "keys",
        "signer",
        "lease",
        "outbox",
        "review",
    },
    {
        "checks",
        "replies",
        "intake",
        "sources",
        "pipeline",
        "sealing",
        "reports",
        "metrics",
        "findings",
        "decisions",
        "issuance",
        "rebuild",
        "watch",
        "witness",
        "coordinator",
        "bundle",
    },
    {"cli"},
    {"__init__", "__main__"},
)
PART_OF = {"migrations": "store"}
LAYER = {noun: level for level, nouns in enumerate(LAYERS) for noun in nouns}
WEBAPP_MAY_IMPORT = {"domain", "errors", "units", "protocol", "sites", "merkle", "archive", "store", "chain", "checks"}
WEBAPP_MAY_IMPORT |= {"config", "bundle", "verify", "review"}
# The relay is another process than the web app; it alone holds a key and sends.
RELAY_MAY_IMPORT = WEBAPP_MAY_IMPORT | {"keys", "signer", "outbox"}


def load(name: str, path: Path):
    """A module from a file that is not importable by name."""
    loader = SourceFileLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def entry():
    return load("wattmark_run", ROOT / "run")


@pytest.fixture(scope="module")
def compiler():
    return load("wattmark_compile", ROOT / "scripts" / "compile.py")


def write(tree: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    return tree


# ---- arrows --------------------------------------------------------------------------------------


def imports(path: Path, package: str) -> set[str]:
    """Dotted names that a file imports, relative ones resolved; `from a import b` gives a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def files_of(tree: Path, package: str):
    """(file, dotted package it lies in, its module noun directly below `package`)."""
    for path in sorted((tree / package).glob("**/*.py")):
        parts = path.relative_to(tree / package).with_suffix("").parts
        yield path, ".".join([package, *parts[:-1]]), PART_OF.get(parts[0], parts[0])


def upward_imports(tree: Path) -> list[str]:
    """Imports in oracle/ that point up the layers, modules without a layer, and cycles between modules."""
    nouns = {noun for _, _, noun in files_of(tree, "oracle")}
    found, arrows = [], {}
    for path, package, noun in files_of(tree, "oracle"):
        if noun not in LAYER:
            found.append(f"oracle.{noun} has no layer")
            continue
        for name in imports(path, package):
            root, _, rest = name.partition(".")
            target = rest.split(".")[0]
            target = PART_OF.get(target, target)
            if root != "oracle" or target not in nouns or target == noun:
                continue
            if target not in LAYER or LAYER[target] > LAYER[noun]:
                found.append(f"{path.relative_to(tree).as_posix()} imports oracle.{target}, which is above it")
            arrows.setdefault(noun, set()).add(target)

    def reaches(start: str, goal: str, seen: frozenset = frozenset()) -> bool:
        steps = arrows.get(start, set()) - seen
        return goal in steps or any(reaches(step, goal, seen | steps) for step in steps)

    found += [f"oracle.{noun} imports itself in a circle" for noun in sorted(arrows) if reaches(noun, noun)]
    return sorted(set(found))


def webapp_breaches(tree: Path) -> list[str]:
    """Imports in webapp/ of parts of the oracle that it may not know."""
    nouns = {noun for _, _, noun in files_of(tree, "oracle")}
    found = set()
    for path, package, _ in files_of(tree, "webapp"):
        for name in imports(path, package):
            root, _, rest = name.partition(".")
            target = rest.split(".")[0]
            allowed = RELAY_MAY_IMPORT if path == tree / "webapp" / "relay.py" else WEBAPP_MAY_IMPORT
            if root == "oracle" and target in nouns - allowed:
                found.add(f"{path.relative_to(tree).as_posix()} imports oracle.{target}")
    return sorted(found)


def test_oracle_imports_point_down():
    assert upward_imports(ROOT) == []


def test_webapp_imports_only_its_part_of_the_oracle():
    assert webapp_breaches(ROOT) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"oracle/merkle.py": "from .store import x", "oracle/store.py": ""},
            "oracle/merkle.py imports oracle.store, which is above it",
        ),
        (
            {"oracle/formats/csv.py": "def f():\n    from oracle import cli", "oracle/cli.py": ""},
            "oracle/formats/csv.py imports oracle.cli, which is above it",
        ),
        (
            {"oracle/store.py": "import oracle.chain", "oracle/chain.py": "from oracle.store import y"},
            "oracle.chain imports itself in a circle",
        ),
        ({"oracle/gadget.py": ""}, "oracle.gadget has no layer"),
    ],
)
def test_upward_imports_planted_breach_found(tmp_path, files, expected):
    assert expected in upward_imports(write(tmp_path, files))


def test_upward_imports_downward_tree_nothing_found(tmp_path):
    files = {"oracle/cli.py": "from . import store", "oracle/store.py": "from .domain import x", "oracle/domain.py": ""}
    assert upward_imports(write(tmp_path, files)) == []


def test_webapp_breaches_planted_breach_found(tmp_path):
    files = {
        "webapp/pages/home.py": "from oracle import chain, pipeline",
        "oracle/pipeline.py": "",
        "oracle/chain.py": "",
    }
    assert webapp_breaches(write(tmp_path, files)) == ["webapp/pages/home.py imports oracle.pipeline"]


# ---- what an import pulls in ---------------------------------------------------------------------


def loaded_by(tree: Path, package: str) -> set[str]:
    """Top-level modules in memory after importing every module of `package` in a fresh interpreter."""
    program = f"""
import importlib, pkgutil, sys
sys.path.insert(0, {str(tree)!r})
package = importlib.import_module({package!r})
for module in pkgutil.walk_packages(package.__path__, {package + "."!r}):
    # Alembic runs its scripts itself; they cannot be imported.
    if not module.name.endswith("__main__") and ".migrations." not in module.name:
        importlib.import_module(module.name)
print(*{{name.split(".")[0] for name in sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=tree)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(("package", "foreign"), [("oracle", {"brownie", "flask", "webapp"}), ("webapp", {"brownie"})])
def test_import_every_module_pulls_in_nothing_foreign(package, foreign):
    assert not loaded_by(ROOT, package) & foreign


def test_loaded_by_planted_import_found(tmp_path):
    write(tmp_path, {"oracle/__init__.py": "", "oracle/domain.py": "import flask"})
    assert "flask" in loaded_by(tmp_path, "oracle")


@pytest.mark.parametrize("package", ["oracle.nodes", "oracle.witness", "webapp", "webapp.relay"])
def test_import_leaves_a_limit_that_nested_json_meets_before_the_stack_ends(package):
    """Without it the process dies by a signal, so this cannot be tried in the test's own."""
    program = (
        f"import json, threading, {package}\n"
        "def read():\n"
        "    try: json.loads('[' * 99_000)\n"
        "    except RecursionError: print('refused')\n"
        "read()\n"
        "thread = threading.Thread(target=read); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "refused\nrefused\n"), done.stderr


# ---- the entry -----------------------------------------------------------------------------------

COMMANDS = ("demo", "test", "bench", "oracle", "web", "compile", "deploy", "doctor", "setup")


def run_entry(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(ROOT / "run"), *arguments], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_help_names_every_command_with_an_example():
    done = run_entry("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} .*\n +example: .*\./run {command}", done.stdout, re.MULTILINE), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_ends_well(command):
    done = run_entry(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_unknown_command_is_refused_by_name():
    done = run_entry("conjure")
    assert done.returncode == 2
    assert "no command called conjure" in done.stderr


def test_bench_offers_exactly_the_scripts_there_are(entry, tmp_path, monkeypatch):
    write(tmp_path, {"scripts/bench_light.py": "", "scripts/bench_air.py": "", "scripts/bench/notes.py": ""})
    monkeypatch.setattr(entry, "ROOT", tmp_path)
    assert entry.benches() == ["air", "light"]


def test_bench_unknown_name_is_refused_with_those_there_are():
    done = run_entry("bench", "conjure")
    assert done.returncode == 2
    offered = re.findall(r"'(\w+)'", done.stderr.partition("choose from")[2]) or re.findall(
        r"\w+", done.stderr.partition("choose from")[2]
    )
    assert offered and all((ROOT / "scripts" / f"bench_{name}.py").is_file() for name in offered)


def test_doctor_json_names_state_and_mend_of_each_check():
    done = run_entry("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    assert {"python", "node", "environment run"} <= {check["name"] for check in report["checks"]}
    assert all(check["mend"] for check in report["checks"] if check["state"] != "ok")


def test_doctor_without_node_says_missing_and_fails(tmp_path):
    (tmp_path / "python3.11").symlink_to(sys.executable)
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "run"), "doctor", "--json"], capture_output=True, text=True, env=environment
    )
    node = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "node")
    assert (done.returncode, node["state"]) == (1, "missing")
    assert "Node.js 20" in node["mend"]


@pytest.fixture
def own_state(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(entry, "STATE", tmp_path)
    return tmp_path


def test_condition_follows_the_life_of_a_set_up(entry, own_state):
    folder = own_state / "node"
    assert entry.condition("node") == "absent"
    folder.mkdir()
    assert entry.condition("node") == "half-made"
    (folder / ".complete").write_text(entry.stamp_of("node"))
    assert entry.condition("node") == "ready"
    (folder / ".complete").write_text("the hash of another lock file")
    assert entry.condition("node") == "stale"


def test_condition_environment_without_interpreter_is_half_made(entry, own_state):
    folder = own_state / "env" / "run"
    folder.mkdir(parents=True)
    (folder / ".complete").write_text(entry.stamp_of("run"))
    assert entry.condition("run") == "half-made"


def test_set_up_interrupted_is_made_again_from_nothing(entry, own_state, monkeypatch):
    def make(progress):
        folder = own_state / "node"
        assert not folder.exists()
        folder.mkdir()
        (folder / "made").touch()

    monkeypatch.setattr(entry, "make_node", make)
    write(own_state, {"node/left-over": ""})
    entry.set_up("node")
    assert entry.condition("node") == "ready"
    assert sorted(path.name for path in (own_state / "node").iterdir()) == [".complete", "made"]


def test_set_up_failing_step_names_log_and_mend(entry, own_state):
    with pytest.raises(entry.Failure, match="the disk is on fire") as caught:
        entry.logged("node", ["sh", "-c", "echo the disk is on fire; exit 3"], "./run setup node")
    assert caught.value.mend == "./run setup node"


def test_install_solc_keeps_a_native_compiler(entry, own_state):
    entry.install_solc()
    target = own_state / "solc" / entry.SOLC
    assert target.read_bytes() == (ROOT / "tools" / "solc").read_bytes()
    target.write_bytes(b"\x7fELF native")
    entry.install_solc()
    assert target.read_bytes() == b"\x7fELF native"


def test_wait_ends_what_a_child_left_running(entry):
    child = entry.start(["sh", "-c", "sleep 300 & echo $!"], stdout=subprocess.PIPE)
    assert entry.wait(child) == 0
    orphan = int(child.stdout.readline())
    child.stdout.close()
    assert gone(orphan)


def gone(process: int, seconds: float = 10) -> bool:
    """Whether a process that is nobody's child here ends within some seconds; one dead but uncollected counts."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_children_and_their_children(number):
    program = f"""
from importlib.machinery import SourceFileLoader
import sys
entry = SourceFileLoader("entry", {str(ROOT / "run")!r}).load_module()
entry.COMMANDS["demo"] = (lambda rest: entry.wait(entry.start(["sh", "-c", "sleep 300 & echo $!; wait"])), "", "")
sys.exit(entry.main(["demo"]))
"""
    parent = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program], stdout=subprocess.PIPE, text=True)
    grandchild = int(parent.stdout.readline())
    parent.send_signal(number)
    assert parent.wait(timeout=15) == 128 + number
    parent.stdout.close()
    assert gone(grandchild)


def test_plan_paths_go_to_their_suite(entry):
    contracts = next((ROOT / "tests/contracts").glob("**/test_*.py"))
    path = contracts.relative_to(ROOT).as_posix()
    assert entry.plan([f"{path}::test_x", "-q"]) == {"contracts": [f"{path}::test_x", "-q"]}
    assert list(entry.plan(["tests/test_house.py"])) == ["python"]
    assert list(entry.plan(["-k", "merkle"])) == ["python", "contracts"]


def test_count_adds_errors_to_failures(entry, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite tests="9" failures="2" errors="1" skipped="3"/></testsuites>')
    assert entry.count(report) == {"passed": 3, "failed": 3, "skipped": 3}
    assert not any(entry.count(tmp_path / "absent.xml").values())


# ---- artifacts -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents(compiler):
    if not (ROOT / ".wattmark/node/.complete").exists() and not CI:
        pytest.skip("npm packages are not installed: ./run setup node")
    output = compiler.compile_contracts()
    found = {name: compiler.artifact(output, name) for name in compiler.DEPLOYABLE}
    assert [name for name, document in found.items() if document is None] == []
    return found


def test_artifacts_are_what_contracts_compile_to(compiler, documents):
    assert compiler.drift(documents, compiler.ARTIFACTS) == []


def test_artifacts_are_what_brownie_compiles(documents, entry):
    if entry.condition("build") != "ready":
        assert not CI, "brownie's build is not up to date: ./run setup build"
        pytest.skip("brownie's build is not up to date: ./run setup build")
    # Brownie leaves out a source that only imports, hence OpenZeppelin's own contracts.
    ours = {name: document for name, document in documents.items() if document["sourceName"].startswith("contracts/")}
    assert len(ours) >= 5
    for name, document in ours.items():
        build = json.loads((ROOT / ".wattmark/build/contracts" / f"{name}.json").read_text())
        assert "0x" + build["bytecode"] == document["bytecode"], name
        assert "0x" + build["deployedBytecode"] == document["deployedBytecode"], name


def test_drift_planted_differences_found(compiler, tmp_path):
    document = {"contractName": "Seal", "abi": [], "bytecode": "0x6001"}
    assert compiler.drift({"Seal": document}, tmp_path) == ["Seal.json: missing"]
    write(tmp_path, {"Seal.json": compiler.render({**document, "bytecode": "0x6002"}), "Ghost.json": "{}"})
    assert compiler.drift({"Seal": document}, tmp_path) == [
        "Seal.json: differs in bytecode",
        "Ghost.json: no contract in contracts/ makes it",
    ]
    write(tmp_path, {"Seal.json": json.dumps(document)})
    (tmp_path / "Ghost.json").unlink()
    assert compiler.drift({"Seal": document}, tmp_path) == ["Seal.json: differs in its formatting"]


def test_artifact_numbers_immutables_by_offset_whatever_their_ids(compiler):
    def references(ids):
        places = [[{"start": 40, "length": 32}, {"start": 9, "length": 32}], [{"start": 20, "length": 32}]]
        runtime = {"object": "60", "immutableReferences": dict(zip(ids, places, strict=True))}
        contract = {"abi": [], "metadata": '{"sources": {}}', "evm": {"bytecode": {"object": "60"}}}
        contract["evm"]["deployedBytecode"] = runtime
        output = {"compilerVersion": "", "contracts": {"contracts/Seal.sol": {"Seal": contract}}}
        return compiler.artifact(output, "Seal")["immutableReferences"]

    expected = {"0": [{"start": 9, "length": 32}, {"start": 40, "length": 32}], "1": [{"start": 20, "length": 32}]}
    assert references(["15", "3"]) == references(["7", "900"]) == expected


def test_compile_broken_contract_names_file_and_line(compiler, tmp_path):
    if not (ROOT / ".wattmark/node/.complete").exists() and not CI:
        pytest.skip("npm packages are not installed: ./run setup node")
    shutil.copy(ROOT / "package-lock.json", tmp_path)
    write(tmp_path, {"contracts/Bad.sol": "pragma solidity 0.8.37;\ncontract Bad { uint256 x = y; }\n"})
    with pytest.raises(compiler.CompileError, match=r"(?s)Undeclared identifier.*contracts/Bad\.sol:2:"):
        compiler.compile_contracts(tmp_path, ROOT / ".wattmark")


def test_compile_and_brownie_share_their_settings(compiler):
    import yaml

    config = yaml.safe_load((ROOT / "brownie-config.yaml").read_text())["compiler"]
    assert config["solc"]["version"] == compiler.SOLC_VERSION
    assert config["evm_version"] == compiler.SETTINGS["evmVersion"]
    assert config["solc"]["optimizer"] == compiler.SETTINGS["optimizer"]
    assert config["solc"]["remappings"] == compiler.SETTINGS["remappings"]
    assert json.loads((ROOT / "package.json").read_text())["dependencies"]["solc"] == compiler.SOLC_VERSION


# ---- dependencies --------------------------------------------------------------------------------


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def named(path: Path) -> set[str]:
    """Canonical names of the packages that a requirements file asks for itself."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {canonical(re.match(r"[A-Za-z0-9._-]+", line)[0]) for line in lines if line and not line.startswith("-")}


def unhashed_pins(text: str) -> list[str]:
    """Lines of a lock file that ask for a package without an exact version and a hash."""
    joined = text.replace("\\\n", " ")
    entries = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.split()[0] for line in entries if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]


def undocumented(tree: Path) -> list[str]:
    """Direct dependencies without a row of their own in docs/dependencies.md."""
    asked = set()
    for name in ("run", "contracts", "dev"):
        asked |= named(tree / "requirements" / f"{name}.txt")
    package = json.loads((tree / "package.json").read_text(encoding="utf-8"))
    asked |= {*package["dependencies"], *package["optionalDependencies"], *package.get("devDependencies", {})}
    table = (tree / "docs" / "dependencies.md").read_text(encoding="utf-8")
    rows = {cell if "/" in cell else canonical(cell) for cell in re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)}
    return sorted(asked ^ rows)


@pytest.mark.parametrize(
    ("asked", "lock"), [("run", "run"), ("dev", "dev"), ("run", "dev"), ("contracts", "contracts")]
)
def test_lock_pins_what_is_asked_for_with_hashes(asked, lock):
    text = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    assert unhashed_pins(text) == []
    pinned = {canonical(name) for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    assert named(ROOT / "requirements" / f"{asked}.txt") <= pinned


def test_dev_lock_holds_exactly_what_runs_in_production():
    run, dev = (
        set(re.findall(r"^\S+==\S+", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))
        for name in ("run", "dev")
    )
    assert run <= dev


def test_unhashed_pins_planted_lines_found():
    pinned = "good==1.0 \\\n    --hash=sha256:" + "a" * 64 + "\n"
    assert unhashed_pins("# made by a tool\n" + pinned + "loose>=2\nbare==3\n") == ["loose>=2", "bare==3"]


SIX_PACKAGES = {"web3", "eth-brownie", "py-solc-x", "eth-account", "flask", "pandas"}


def installed_by_requirements(tree: Path) -> set[str]:
    """Canonical names of what requirements.txt asks for, directly or by its `-r` lines."""
    lines = (tree / "requirements.txt").read_text(encoding="utf-8").splitlines()
    files = [line.split()[1] for line in lines if line.startswith("-r ")]
    return named(tree / "requirements.txt").union(*(named(tree / file) for file in files))


def test_requirements_installs_run_and_workshop_with_the_six_packages():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert {"-r requirements/run.txt", "-r requirements/contracts.txt"} <= set(lines)
    assert installed_by_requirements(ROOT) >= SIX_PACKAGES


def test_installed_by_requirements_package_only_in_a_comment_is_not_among_them(tmp_path):
    write(
        tmp_path, {"requirements.txt": "# web3, flask\n-r requirements/run.txt\n", "requirements/run.txt": "flask>=3"}
    )
    assert installed_by_requirements(tmp_path) == {"flask"}


# Distributions whose module has another name.
MODULE_OF = {
    "beautifulsoup4": "bs4",
    "eth-brownie": "brownie",
    "py-solc-x": "solcx",
    "fpdf2": "fpdf",
    "paho-mqtt": "paho",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "safe-pysha3": "sha3",
}
# Asked for without being imported, and why.
NOT_IMPORTED = {
    "psycopg": "SQLAlchemy loads it where the database's URL names it",
    "coincurve": "eth-account and eth-keys pick it up when it is there",
    "mypy": "a command",
    "pyopenssl": "pyftpdlib loads it for FTP over TLS",
    "ruff": "a command",
    "pandas-stubs": "types for mypy",
    "types-defusedxml": "types for mypy",
    "types-openpyxl": "types for mypy",
    "types-pyyaml": "types for mypy",
    "types-requests": "types for mypy",
}


def imported_nowhere(tree: Path) -> list[str]:
    """Python packages asked for that no file of the project imports."""
    asked = set().union(*(named(tree / "requirements" / f"{name}.txt") for name in ("run", "contracts", "dev")))
    found = set()
    for folder in ("oracle", "webapp", "scripts", "tests"):
        for path, package, _ in files_of(tree, folder):
            found |= {name.split(".")[0] for name in imports(path, package)}
    return sorted(name for name in asked if MODULE_OF.get(name, name.replace("-", "_")) not in found)


def test_every_direct_dependency_is_imported_somewhere():
    assert set(imported_nowhere(ROOT)) <= set(NOT_IMPORTED)


def test_imported_nowhere_planted_package_found(tmp_path):
    files = {f"requirements/{name}.txt": "" for name in ("contracts", "dev")}
    files["requirements/run.txt"] = "PyYAML>=6\nFlask-Babel>=4\nleftpad==1\n"
    files["oracle/config.py"] = "def f():\n    from yaml import safe_load"
    files["webapp/texts.py"] = "import flask_babel\n# import leftpad"
    assert imported_nowhere(write(tmp_path, files)) == ["leftpad"]


def test_dependencies_are_documented():
    assert undocumented(ROOT) == []


def test_undocumented_planted_package_found(tmp_path):
    files = {f"requirements/{name}.txt": "" for name in ("contracts", "dev")}
    files["requirements/run.txt"] = "Flask>=3\nleftpad==1  # why\n"
    files["package.json"] = '{"dependencies": {"@a/b": "1"}, "optionalDependencies": {}}'
    files["docs/dependencies.md"] = "| `flask` | web |\n| `@a/b` | x |\n| `gone` | no longer asked for |\n"
    assert undocumented(write(tmp_path, files)) == ["gone", "leftpad"]


# ---- what no file may hold -----------------------------------------------------------------------

FOREIGN = re.compile(
    r"(?<![\w.:/-])/(?:root|work|farm|Users|home/\w+)/"
    r"|registry[.]npmjs|registry[.]yarnpkg|pypi[.]org|pythonhosted[.]org|deb[.]debian[.]org"
)


def foreign_places(tree: Path, files: list[str]) -> list[str]:
    """Lines with a path of one machine or the host of a package registry, as file:line: text."""
    found = []
    for name in files:
        data = (tree / name).read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            if hit := FOREIGN.search(line):
                found.append(f"{name}:{number}: {hit[0]}")
    return found


def test_files_hold_no_machine_path_or_registry_host():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        assert not CI, listed.stderr
        pytest.skip("not a git checkout")
    files = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    assert "run" in files
    assert foreign_places(ROOT, files) == []


def test_foreign_places_planted_lines_found(tmp_path):
    home = "/".join(["", "home", "ann", "data"])
    host = ".".join(["registry", "npmjs", "org"])
    write(tmp_path, {"a.md": f"fine\nsee {home}\n", "b.json": f'"https://{host}/x"', "c.md": "a /workshop/ and work/x"})
    found = foreign_places(tmp_path, ["a.md", "b.json", "c.md"])
    assert [place.rsplit(":", 1)[0] for place in found] == ["a.md:2", "b.json:1"]


# ---- the tests themselves ------------------------------------------------------------------------


def test_network_outside_loopback_is_refused():
    with pytest.raises(OSError, match="only loopback"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(OSError, match="only loopback"):
        socket.getaddrinfo("example.org", 443)


def test_network_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()

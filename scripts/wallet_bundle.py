"""The one bundled script of the wallet pages: viem's ABI coding, made by esbuild from webapp/bundle/entry.js.

    python scripts/wallet_bundle.py            build it and write down its hash
    python scripts/wallet_bundle.py --check    build it elsewhere and say whether the committed one is the same

webapp/static/wallet/viem.js is committed, so that the site is served without Node; webapp/bundle/bundle.json
names the packages it was built from and its SHA-256, viem.LICENSES.txt beside it carries their licences.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENTRY = ROOT / "webapp" / "bundle" / "entry.js"
BUNDLE = ROOT / "webapp" / "static" / "wallet" / "viem.js"
LICENCES = BUNDLE.with_name("viem.LICENSES.txt")
RECORD = ROOT / "webapp" / "bundle" / "bundle.json"
NODE = ROOT / ".wattmark" / "node"
PACKAGES = ("viem", "esbuild")
OPTIONS = ("--bundle", "--format=esm", "--target=es2022", "--minify", "--charset=utf8", "--legal-comments=inline")
_PACKAGE = re.compile(r"node_modules/((?:@[^/]+/)?[^/]+)/")


class BundleError(Exception):
    """The bundle cannot be built; the text says what mends it."""


def versions(tree: Path = ROOT) -> dict[str, str]:
    """The versions that package.json pins."""
    asked = json.loads((tree / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    return {name: asked[name] for name in PACKAGES}


@dataclass(frozen=True)
class Built:
    """What one build made: the script, the packages in it with their versions, and their licences."""

    code: bytes
    packages: dict[str, str]
    licences: str

    def record(self) -> dict[str, object]:
        return {
            "bundle": BUNDLE.relative_to(ROOT).as_posix(),
            "sha256": hashlib.sha256(self.code).hexdigest(),
            "entry_sha256": hashlib.sha256(ENTRY.read_bytes()).hexdigest(),
            "esbuild": versions()["esbuild"],
            "packages": self.packages,
        }


def build() -> Built:
    """Bundle the entry. Raises BundleError where npm's packages are not those asked for."""
    for name, version in versions().items():
        if (found := _installed(name)) != version:
            raise BundleError(f"package.json asks for {name} {version}, installed is {found}: ./run setup node")
    with tempfile.TemporaryDirectory() as folder:
        target, inputs = Path(folder) / BUNDLE.name, Path(folder) / "inputs.json"
        command = [NODE / "node_modules" / ".bin" / "esbuild", *OPTIONS, f"--outfile={target}", f"--metafile={inputs}"]
        # Run where the packages are; the text is the entry's own.
        text = ENTRY.read_text(encoding="utf-8")
        done = subprocess.run(list(map(str, command)), input=text, cwd=NODE, capture_output=True, text=True)
        if done.returncode:
            raise BundleError(f"esbuild ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        [made] = json.loads(inputs.read_text(encoding="utf-8"))["outputs"].values()
        sources = [path for path, part in made["inputs"].items() if part["bytesInOutput"]]
        used = sorted({match[1] for path in sources if (match := _PACKAGE.match(path))})
        return Built(target.read_bytes(), {name: _installed(name) for name in used}, _licences(used))


def _installed(name: str) -> str:
    package = NODE / "node_modules" / name / "package.json"
    return str(json.loads(package.read_text(encoding="utf-8"))["version"]) if package.exists() else "none"


def _licences(names: list[str]) -> str:
    texts = []
    for name in names:
        found = sorted((NODE / "node_modules" / name).glob("LICEN[CS]E*"))
        if not found:
            package = json.loads((NODE / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
            texts.append(f"{name} {package['version']}: {package.get('license', 'no licence stated')}")
            continue
        texts.append(f"{name} {_installed(name)}\n\n{found[0].read_text(encoding='utf-8').strip()}")
    return f"\n\n{'-' * 80}\n\n".join(texts) + "\n"


def drift() -> list[str]:
    """What differs between what is committed and what a build makes now; nothing if all is well."""
    built = build()
    committed = {
        BUNDLE: built.code,
        LICENCES: built.licences.encode(),
        RECORD: _rendered(built),
    }
    return [
        f"{path.relative_to(ROOT)} is not what {ENTRY.relative_to(ROOT)} builds to"
        for path, wanted in committed.items()
        if not path.exists() or path.read_bytes() != wanted
    ]


def _rendered(built: Built) -> bytes:
    return (json.dumps(built.record(), indent=2) + "\n").encode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if the committed bundle is another"
    )
    try:
        if parser.parse_args().check:
            found = drift()
            print(
                "\n".join(found) or "the bundle is what its entry builds to", file=sys.stderr if found else sys.stdout
            )
            return 1 if found else 0
        built = build()
    except BundleError as fault:
        print(f"wallet_bundle: {fault}", file=sys.stderr)
        return 1
    BUNDLE.write_bytes(built.code)
    LICENCES.write_text(built.licences, encoding="utf-8")
    RECORD.write_bytes(_rendered(built))
    print(f"{BUNDLE.relative_to(ROOT)}: {len(built.code)} bytes, sha256 {hashlib.sha256(built.code).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

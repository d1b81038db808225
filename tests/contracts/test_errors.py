"""No custom error and no event of ours without a test that reaches it"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def told(kind):
    """Names of what the interfaces declare as `kind`."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "contracts" / "interfaces").glob("*.sol"))
    return {name for source in sources for name in re.findall(rf"^    {kind} (\w+)\(", source, re.MULTILINE)}


def sources():
    return "\n".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))


def test_every_error_is_reached():
    reached = set(re.findall(r'(?:refuses\(\s*"|match=f?r?"|\(")(\w+)', sources()))
    assert told("error") - reached == set()
    assert len(told("error")) > 60


def test_every_event_is_seen():
    seen = set(re.findall(r'events\["(\w+)"\]', sources()))
    assert told("event") - seen == set()

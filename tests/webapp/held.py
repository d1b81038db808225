"""An oracle with three held days, for tests of what a reviewer does: real files, real rules, figures worked out by hand.

June 2022, device 1. The 1st lacks two dark slots (2,412 Wh measured); of slot 61 of the 2nd two files say 101 and 50 Wh; the 3rd lacks
three slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from oracle import decisions, pipeline
from oracle.config import OracleConfig
from oracle.findings import keep
from oracle.keys import create_device_key
from oracle.store import Store

DAY = 86_400
FIRST = 1_654_041_600  # 2022-06-01 UTC

FACT = {"basis": "known", "source": "label"}
SITES: dict[str, Any] = {
    "folder": ".",
    "sites": {
        "lab": {
            "name": "Laboratory", "latitude": 39.742, "longitude": -105.17, "altitude_m": 1_800, "timezone": "America/Denver",
            "country": "US", "grid_zone": "RMPA", **FACT,
        }
    },
    # Corroboration has tests of its own; here a day is accepted when it is complete.
    "policies": {"plain": {"corroboration": {"required": False}}},
    "devices": [
        {
            "id": 1, "name": "meter 1", "site": "lab", "kind": "generation", "visibility": "public", "fuel_code": "F01040100",
            "technology_code": "T010100", "capacity": {"watts": 10_000, **FACT}, "granularity_seconds": DAY,
            "meter": {"identity": "lab-1", **FACT}, "active_from": "2022-01-01T00:00:00Z", "policy": "plain", "stations": [],
            "file": {
                "format": "csv", "names": ["meter-1*.csv"], "stamp_columns": ["time"], "interval_seconds": 900, "stamped": "start",
                "channels": {"energy": {"column": "Wh", "quantity": "energy", "unit": "Wh"}}, **FACT,
            },
        }
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Held:
    """The oracle; its folder of decisions is the one that the web app writes."""

    config: OracleConfig
    store: Store

    def take(self) -> list[decisions.Received]:
        """A round of the oracle, as `run` does it: what of the folder is news to it."""
        pipeline.assess_all(self.config, self.store)
        received = decisions.take_waiting(self.config, self.store)
        pipeline.assess_all(self.config, self.store)
        return received

    def ingest_late(self, folder: Path, day: int = 0) -> None:
        """A slot that was missing on the 1st, or another of the days, comes after all."""
        pipeline.ingest(self.config, self.store, [written(folder, "meter-1-late.csv", rows(day, [10]))])


def rows(day: int, slots: Any = range(96)) -> list[str]:
    """Energy from 15:00 to 21:00 UTC: 24 slots of 100 or 101 Wh."""
    return [
        f"{datetime.fromtimestamp(FIRST + day * DAY + slot * 900, UTC).isoformat()},{100 + slot % 2 if 60 <= slot < 84 else 0}"
        for slot in slots
    ]


def written(folder: Path, name: str, *days: list[str]) -> Path:
    file = folder / name
    file.write_text("\n".join(["time,Wh", *(row for day in days for row in day)]) + "\n", encoding="utf-8")
    return file


def opened(folder: Path) -> Held:
    """The oracle in a folder that :func:`held_oracle` made, or in a copy of it."""
    config = OracleConfig.load(folder / "wattmark.yaml")
    return Held(config, Store.open(config.database_url))


def held_oracle(folder: Path, reviewer: str, **settings: Any) -> Held:
    folder.mkdir(parents=True)
    (folder / "sites.yaml").write_text(yaml.safe_dump(SITES), encoding="utf-8")
    document = {
        "sites": "sites.yaml", "database": "sqlite:///oracle.db", "raw_folder": "raw", "archive_folder": "archive",
        "device_keys_folder": "keys", "network": {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"},
        "reviewers": [reviewer], "decisions_folder": "decisions", **settings,
    }  # fmt: skip
    (folder / "wattmark.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    held = opened(folder)
    config = held.config
    create_device_key(config.device_keys_folder, 1)
    without = [slot for slot in range(96) if slot not in (10, 11)]
    first = written(folder, "meter-1.csv", rows(0, without), rows(1), rows(2, [slot for slot in without if slot != 12]))
    second = written(folder, "meter-1-second.csv", [row.replace(",101", ",50") for row in rows(1, [61])])
    pipeline.ingest(config, held.store, [first, second])
    keep(config, held.store)
    return held

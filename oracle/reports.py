"""What people and monitors are shown: the gap report, counts, and the slots of all archives."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from rich.text import Text
from sqlalchemy import func, select

from .archive import read_archive, roots_in
from .config import OracleConfig
from .domain import (
    SLOT_SECONDS,
    BatchKind,
    DayState,
    Quality,
    SagaState,
)
from .errors import ArchiveError
from .pipeline import count_states, slot_pairs
from .protocol import unpack_profile
from .sites import load_sites
from .store import Act, Correction, DeviceDay, RawFile, ReviewDecision, SealedBatch, Store
from .units import format_kwh, utc_date

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


@dataclass(frozen=True, slots=True)
class Gap:
    """One line of the gap report: a device-day, how far it has come, and why no further.

    ``pending`` and ``correction`` tell of newer data than what is sealed, and of the version made of them.
    """

    device_id: int
    device: str
    start: int
    state: DayState
    reason: str
    energy_wh: int
    missing_slots: int
    suspect_slots: int
    pending: str
    root: str
    correction: str = ""

    @property
    def day(self) -> str:
        return utc_date(self.start)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "day": self.day, "state": self.state.value}


def gaps(config: OracleConfig, store: Store) -> list[Gap]:
    """Every device-day there is, between each device's first and last, in order; nothing is left out."""
    names = {device.device_id: device.name for device in load_sites(config.sites_file).devices}
    with store.session() as session:
        rows = session.scalars(select(DeviceDay).order_by(DeviceDay.device_id, DeviceDay.start)).all()
    newest = {(one.device_id, one.start): one for one in corrections(store)}
    report = []
    for row in rows:
        quality = unpack_profile(row.start, row.profile).quality
        report.append(
            Gap(
                device_id=row.device_id,
                device=names.get(row.device_id, ""),
                start=row.start,
                state=row.state,
                reason=row.reason,
                energy_wh=row.energy_wh,
                missing_slots=sum(not one for one in quality),
                suspect_slots=sum(bool(one & Quality.SUSPECT) for one in quality),
                pending=row.pending,
                root=row.root or "",
                correction=_said_of(newest.get((row.device_id, row.start))),
            )
        )
    return report


@dataclass(frozen=True, slots=True)
class CorrectionLine:
    """A later version of a device-day: old and new energy in Wh, how far it has come, and what the chain made of it.

    ``owed_wh``: by how much the device's debt grew; None as long as the correction is not applied.
    """

    device_id: int
    start: int
    version: int
    state: DayState
    reason: str
    previous_wh: int
    energy_wh: int
    owed_wh: int | None
    root: str

    @property
    def day(self) -> str:
        return utc_date(self.start)

    @property
    def difference_wh(self) -> int:
        return self.energy_wh - self.previous_wh

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "day": self.day, "state": self.state.value, "difference_wh": self.difference_wh}


def corrections(store: Store) -> list[CorrectionLine]:
    """Every correction there is, by device, day and version."""
    with store.session() as session:
        rows = session.scalars(
            select(Correction).order_by(Correction.device_id, Correction.start, Correction.version)
        ).all()
    return [
        CorrectionLine(
            row.device_id,
            row.start,
            row.version,
            row.state,
            row.reason,
            row.previous_wh,
            row.energy_wh,
            row.owed_wh,
            row.root or "",
        )
        for row in rows
    ]


def _said_of(line: CorrectionLine | None) -> str:
    if line is None:
        return ""
    figures = f"{format_kwh(line.energy_wh)} kWh instead of {format_kwh(line.previous_wh)} kWh"
    owed = f", {format_kwh(line.owed_wh)} kWh of it owed" if line.owed_wh else ""
    waits = f" ({line.reason})" if line.state is DayState.HELD else ""
    return f"version {line.version} {line.state.value}: {figures}{owed}{waits}"


def held_first_versions(config: OracleConfig, store: Store) -> list[Gap]:
    """Device-days whose first version waits for a decision."""
    return [gap for gap in gaps(config, store) if gap.state is DayState.HELD]


#: How each state is drawn: a mark for terminals without colours, and a colour that also tells without red and green.
MARKS = {
    DayState.METERED: ("·", "#bbbbbb"),
    DayState.HELD: ("?", "#ee7733"),
    DayState.REJECTED: ("x", "#882255"),
    DayState.ACCEPTED: ("-", "#ddcc77"),
    DayState.SEALED: ("s", "#88ccee"),
    DayState.NOTARIZED: ("n", "#44aadd"),
    DayState.ISSUED: ("i", "#3377bb"),
    DayState.FINAL: ("F", "#224488"),
}


def _months(report: Iterable[Gap]) -> dict[tuple[int, str], dict[int, Gap]]:
    """Device-days by device and month ("2016-07"), then by day of the month."""
    rows: dict[tuple[int, str], dict[int, Gap]] = {}
    for gap in report:
        rows.setdefault((gap.device_id, gap.day[:7]), {})[int(gap.day[8:])] = gap
    return dict(sorted(rows.items()))


def gaps_heat(report: Sequence[Gap]) -> list[Text]:
    """The gap report as a map for a terminal: a line for each device and month, a mark for each day, and what marks mean."""
    lines = [Text(f"{'device':>8} month   " + "".join(str(day % 10) for day in range(1, 32)))]
    for (device_id, month), days in _months(report).items():
        line = Text(f"{device_id:>8} {month} ")
        for day in range(1, 32):
            gap = days.get(day)
            mark, colour = MARKS[gap.state] if gap else (" ", "default")
            line.append(mark, style="default" if gap is None else f"black on {colour}")
        late = sum(bool(gap.correction or gap.pending) for gap in days.values())
        lines.append(line.append(f"  {late} with newer data" if late else ""))
    used = {gap.state for gap in report}
    legend = Text("\n")
    for state, (mark, colour) in MARKS.items():
        if state in used:
            legend.append(mark, style=f"black on {colour}").append(f" {state.value}  ")
    return [*lines, legend]


def gaps_svg(report: Sequence[Gap]) -> str:
    """The same map as an SVG picture; each day is titled with its state, energy and reason. Texts of files are escaped."""
    cell, left, top = 16, 150, 40
    rows = _months(report)
    width, height = left + 31 * cell + 20, top + (len(rows) + 2) * (cell + 2)
    svg = ET.Element(
        "svg", xmlns="http://www.w3.org/2000/svg", width=str(width), height=str(height), role="img", fill="#222222"
    )
    svg.set("font-family", "sans-serif")
    svg.set("font-size", "11")
    ET.SubElement(svg, "title").text = "Device-days by state"
    ET.SubElement(svg, "rect", width="100%", height="100%", fill="#ffffff")
    for day in range(1, 32):
        ET.SubElement(svg, "text", x=str(left + (day - 1) * cell + 2), y=str(top - 8)).text = str(day)
    for number, ((device_id, month), days) in enumerate(rows.items()):
        y = top + number * (cell + 2)
        ET.SubElement(svg, "text", x="8", y=str(y + 12)).text = f"device {device_id}  {month}"
        for day, gap in days.items():
            box = ET.SubElement(
                svg, "rect", x=str(left + (day - 1) * cell), y=str(y), width=str(cell - 1), height=str(cell - 1)
            )
            box.set("fill", MARKS[gap.state][1])
            if gap.correction or gap.pending:
                box.set("stroke", "#cc3311")
            said = filter(None, (gap.reason, gap.pending, gap.correction))
            facts = f"{gap.day} device {gap.device_id}: {gap.state.value}, {format_kwh(gap.energy_wh)} kWh"
            ET.SubElement(box, "title").text = _printable("; ".join((facts, *said)))
    x, y = 8, top + (len(rows) + 1) * (cell + 2)
    for state, (_, colour) in MARKS.items():
        ET.SubElement(svg, "rect", x=str(x), y=str(y), width="12", height="12", fill=colour)
        ET.SubElement(svg, "text", x=str(x + 16), y=str(y + 10)).text = state.value
        x += 80
    return ET.tostring(svg, encoding="unicode") + "\n"


def _printable(text: str) -> str:
    """What people and files wrote, without characters that XML cannot carry."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


_GAP_COLUMNS = (
    "device_id",
    "device",
    "day",
    "state",
    "energy_wh",
    "missing_slots",
    "suspect_slots",
    "reason",
    "pending",
    "root",
    "correction",
)


def gaps_csv(report: Iterable[Gap]) -> str:
    """The gap report as CSV. Texts that a spreadsheet would run as a formula start with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_GAP_COLUMNS)
    for gap in report:
        line = gap.to_json()
        writer.writerow([harmless(line[column]) for column in _GAP_COLUMNS])
    return out.getvalue()


def harmless(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers."""
    return "'" + value if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA_STARTS) else value


def tared(store: Store) -> dict[int, int]:
    """For each device, in how many of its slots the meter's reading was within the tare band and counts as 0 Wh."""
    counted: dict[int, int] = {}
    with store.session() as session:
        for device_id, facts in session.execute(
            select(DeviceDay.device_id, DeviceDay.assessment).order_by(DeviceDay.device_id)
        ):
            counted[device_id] = counted.get(device_id, 0) + facts.get("report", {}).get("tare_zeroed_slots", 0)
    return counted


def status(store: Store) -> dict[str, Any]:
    """Counts for a person or a monitor: files, rows, device-days, batches, acts on the chain. Plain JSON values."""
    with store.session() as session:
        files, used, refused, last = session.execute(
            select(
                func.count(RawFile.sha256.distinct()),
                func.sum(RawFile.rows_used),
                func.sum(RawFile.rows_refused),
                func.max(RawFile.received_at),
            ).select_from(RawFile)
        ).one()
        batch = session.scalars(select(SealedBatch).order_by(SealedBatch.sealed_at.desc()).limit(1)).first()
        acts = session.execute(select(Act.state, func.count()).group_by(Act.state)).all()
        return {
            "files": files,
            "rows_used": int(used or 0),
            "rows_refused": int(refused or 0),
            "last_file_at": last.isoformat() if isinstance(last, datetime) else last,
            "device_days": {state.value: count for state, count in count_states(session).items()},
            "tared_slots": {str(device_id): slots for device_id, slots in tared(store).items()},
            "corrections": {state.value: count for state, count in count_states(session, Correction).items()},
            "owed_wh": int(session.scalar(select(func.sum(Correction.owed_wh))) or 0),
            "pending": session.scalar(select(func.count()).select_from(DeviceDay).where(DeviceDay.pending != "")) or 0,
            "decisions": session.scalar(select(func.count()).select_from(ReviewDecision)) or 0,
            "batches": session.scalar(select(func.count()).select_from(SealedBatch)) or 0,
            "last_batch": None
            if batch is None
            else {
                "root": batch.root,
                "state": batch.state.value,
                "start": batch.start,
                "end": batch.end,
                "statements": batch.statements,
                "energy_wh": batch.energy_wh,
                "sealed_at": batch.sealed_at.isoformat(),
            },
            "acts": {SagaState(state).value: count for state, count in (tuple(row) for row in acts)},
        }


# -- export -----------------------------------------------------------------------------------------

_SLOT_COLUMNS = ("device_id", "slot_start", "energy_wh", "quality", "certified", "version", "root")


def export_slots(config: OracleConfig, device_id: int | None = None) -> Iterator[dict[str, Any]]:
    """Every 15-minute slot of every statement sealed to be issued, out of the archives alone; ``slot_start`` is ISO 8601 in UTC."""
    for root in roots_in(config.archive_folder):
        archive = read_archive(config.archive_folder, root)
        if archive.problem:
            raise ArchiveError(archive.problem, root="0x" + root.hex())
        if archive.kind is not BatchKind.FINAL:
            continue
        for record in archive.records:
            statement = record.statement
            if device_id not in (None, statement.device_id):
                continue
            profile = unpack_profile(statement.start, record.profile)
            for slot, (energy_wh, quality) in enumerate(slot_pairs(profile)):
                yield {
                    "device_id": statement.device_id,
                    "slot_start": datetime.fromtimestamp(statement.start + slot * SLOT_SECONDS, UTC).isoformat(),
                    "energy_wh": energy_wh,
                    "quality": quality,
                    "certified": bool(quality & Quality.CERTIFIED),
                    "version": statement.version,
                    "root": "0x" + root.hex(),
                }


def export_csv(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines of CSV for :func:`export_slots`, the header first."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_SLOT_COLUMNS)
    for row in rows:
        writer.writerow([harmless(row[column]) for column in _SLOT_COLUMNS])
        yield out.getvalue()
        out.seek(0)
        out.truncate()
    yield out.getvalue()

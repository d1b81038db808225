"""The same energy in three units, two stampings and several formats gives the very same slots."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle.formats import Channel, Quantity, SourceConfig, day_slots, read
from oracle.protocol import pack_profile
from oracle.sites import load_sites
from oracle.vee import validate

DAY = 1_782_000_000  # 2026-06-21T00:00:00Z
WH = {"Wh": Decimal(1), "kWh": Decimal(1000), "MWh": Decimal(10) ** 6}
PLAIN = SourceConfig("csv", ("*",), (), ("time",), 900, utc_offset_seconds=0)
DAYS = st.lists(st.integers(0, 20_000_000), min_size=96, max_size=96)  # thousandths of a Wh


def stamp(slot, stamped, zone_hours=0):
    late = slot + (stamped == "end")
    return datetime.fromtimestamp(DAY, UTC) + timedelta(minutes=15 * late, hours=zone_hours)


def as_csv(milli_wh, unit, stamped):
    rows = [
        f"{stamp(n, stamped):%Y-%m-%d %H:%M:%S},{Decimal(value) / 1000 / WH[unit]:f}"
        for n, value in enumerate(milli_wh)
    ]
    channel = Channel("e", "value", Quantity.ENERGY, unit)
    return "\n".join(["time,value", *rows]).encode(), replace(PLAIN, channels=(channel,), stamped=stamped)


def as_register(milli_wh, unit, stamped):
    total, rows = Decimal(0), [f"{stamp(-1, stamped):%Y-%m-%d %H:%M:%S},0"]
    for n, value in enumerate(milli_wh):
        total += Decimal(value)
        rows.append(f"{stamp(n, stamped):%Y-%m-%d %H:%M:%S},{total / 1000 / WH[unit]:f}")
    channel = Channel("e", "value", Quantity.REGISTER, unit)
    return "\n".join(["time,value", *rows]).encode(), replace(PLAIN, channels=(channel,), stamped=stamped)


def as_mii_csv(milli_wh, unit, stamped):
    rows = [
        f"{stamp(n, stamped):%Y-%m-%d %H:%M:%S},{Decimal(value) / 1000 / WH[unit]:f}"
        for n, value in enumerate(milli_wh)
    ]
    header = ["datalogger,D", "type,inverter", "name,i", "uid,I1", f"unit,{unit}", "abbreviation,E_INT"]
    channel = Channel("e", "I1/E_INT", Quantity.ENERGY, "file")
    return "\n".join([*header, *rows]).encode(), replace(PLAIN, format="mii-csv", channels=(channel,), stamped=stamped)


def as_mii_xml(milli_wh, unit, stamped):
    points = "".join(
        f'<datapoint interval="900" timestamp="{stamp(n, stamped):%Y-%m-%dT%H:%M:%SZ}"><device id="I1">'
        f'<mv t="E_INT" v="{Decimal(value) / 1000 / WH[unit]:f}"/></device></datapoint>'
        for n, value in enumerate(milli_wh)
    )
    devices = '<configuration><devices><device type="inverter" id="I1"/></devices></configuration>'
    data = f'<mii version="2.0"><datalogger>{devices}<datapoints>{points}</datapoints></datalogger></mii>'
    channel = Channel("e", "I1/E_INT", Quantity.ENERGY, unit)
    return data.encode(), replace(
        PLAIN, format="mii-xml", channels=(channel,), stamped=stamped, utc_offset_seconds=None
    )


def as_nem12(milli_wh, unit, stamped):
    # A UTC day is 10:00 to 10:00 of market time, so it lies on two days of the file.
    texts = [f"{Decimal(value) / 1000 / WH[unit]:f}" for value in milli_wh]
    first, second = ["0"] * 40 + texts[:56], texts[56:] + ["0"] * 56
    records = ["100,NEM12,202606220105,M,R", f"200,NMI,B1,B1,B1,N1,S,{unit},15,"]
    records += [f"300,{date},{','.join(values)},A,,,," for date, values in ((20260621, first), (20260622, second))]
    channel = Channel("e", "NMI/B1", Quantity.ENERGY, unit)
    return "\n".join([*records, "900"]).encode(), replace(
        PLAIN, format="nem12", channels=(channel,), utc_offset_seconds=None
    )


def as_vcom(milli_wh, unit, stamped):
    values = ",".join(
        f'"{stamp(n, stamped):%Y-%m-%dT%H:%M:%S+00:00}":{{"7":{{"E_INT":{Decimal(value) / 1000 / WH[unit]:f}}}}}'
        for n, value in enumerate(milli_wh)
    )
    channel = Channel("e", "meters/7/E_INT", Quantity.ENERGY, unit)
    return f'{{"meters":{{{values}}}}}'.encode(), replace(
        PLAIN, format="vcom", channels=(channel,), stamped=stamped, utc_offset_seconds=None
    )


@pytest.mark.parametrize("write", [as_register, as_mii_csv, as_mii_xml, as_nem12, as_vcom])
@settings(max_examples=8, deadline=None)
@given(milli_wh=DAYS)
def test_read_same_energy_in_any_unit_stamping_and_format_gives_the_same_slots(write, milli_wh):
    exact = tuple(value * 3_600_000 for value in milli_wh)
    for unit in WH:
        for stamped in ("start", "end"):
            # A millionth of a unit is the finest that counts, so MWh carry whole Wh alone.
            whole = [value - value % 1000 for value in milli_wh] if unit == "MWh" else milli_wh
            data, source = write(whole, unit, stamped)
            parsed = read(data, source, "x")
            assert parsed.refused == ()
            days = day_slots(parsed.series)
            expected = tuple(value * 3_600_000 for value in whole) if unit == "MWh" else exact
            assert days[DAY].micro_j == expected
            assert days[DAY].micro_j == day_slots(read(*as_csv(whole, "Wh", "end"), "x").series)[DAY].micro_j


@settings(max_examples=8, deadline=None)
@given(wh=st.lists(st.integers(0, 1_500), min_size=96, max_size=96))
def test_validate_same_energy_in_three_units_and_two_stampings_gives_the_same_profile(wh):
    """As an interval and as a register, with a point and with a comma: one profile, so one hash."""
    device = load_sites(Path(__file__).parents[2] / "scripts" / "demo_sites.yaml").device(1)
    profiles = set()
    for write in (as_csv, as_register):
        for unit in WH:
            for stamped in ("start", "end"):
                for mark in (".", ","):
                    data, source = write([value * 1000 for value in wh], unit, stamped)
                    if mark == ",":
                        data, source = (
                            data.replace(b",", b";").replace(b".", b","),
                            replace(source, delimiter=";", decimal_mark=","),
                        )
                    day = day_slots(read(data, source, "x").series)[DAY]
                    [(profile, _)] = validate([(device, day)], device.policy)
                    profiles.add(pack_profile(profile))
    assert len(profiles) == 1

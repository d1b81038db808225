"""DeviceRegistry.register"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import DAY, ZERO_ADDRESS, ZERO_HASH
from tests.contracts.world import ACTIVE_FROM, FOREVER, next_day, refuses


def test_register_new_device_is_kept_whole(world):
    device = world.device(granularity=900, visibility=2)
    tx = world.registry.register(9, device, {"from": world.registrar})
    assert tuple(world.registry.device(9)) == tuple(
        "0x" + field.hex() if isinstance(field, bytes) else field for field in device
    )
    event = tx.events["DeviceRegistered"]
    assert (event["deviceId"], event["account"], event["meterHash"]) == (
        9,
        world.generator,
        "0x" + keccak(b"meter 1").hex(),
    )
    assert world.registry.deviceOfMeter(keccak(b"meter 1")) == 9
    zone, country = world.registry.zoneOf(9)
    assert (bytes(zone), bytes(country)) == (b"RMPA".ljust(16, b"\0"), b"US")


def test_register_known_id_is_refused(world):
    world.register(1)
    with refuses("DeviceAlreadyRegistered", 1):
        world.register(1, meter_hash=keccak(b"another"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("account", ZERO_ADDRESS),
        ("capacityW", 0),
        ("kind", 0),
        ("visibility", 0),
        ("country", b"\0\0"),
        ("country", b"us"),
        ("country", b"U["),
        ("country", b"@S"),
        ("fuelCode", 100_000_000),
        ("technologyCode", 1_000_000),
        ("gridZone", bytes(16)),
        ("meterHash", ZERO_HASH),
        ("granularity", 0),
        ("granularity", 450),
        ("granularity", 6_300),
        ("granularity", 2 * DAY),
        ("activeFrom", ACTIVE_FROM + 3_600),
        ("activeUntil", ACTIVE_FROM + 100 * DAY),
    ],
)
def test_register_bad_field_is_refused_by_name(world, field, value):
    names = {
        "capacityW": "capacity_w",
        "fuelCode": "fuel_code",
        "technologyCode": "technology_code",
        "gridZone": "grid_zone",
    }
    names |= {"meterHash": "meter_hash", "activeFrom": "active_from", "activeUntil": "active_until"}
    with refuses("DeviceFieldInvalid", 1, field):
        world.register(1, **{names.get(field, field): value})


def test_register_id_zero_is_refused(world):
    with refuses("DeviceFieldInvalid", 0, "deviceId"):
        world.register(0)


def test_register_meter_of_active_device_is_refused(world):
    world.register(1)
    with refuses("MeterInUse", keccak(text="meter 1"), 1, FOREVER):
        world.register(2, meter_hash=keccak(text="meter 1"))


def test_register_meter_after_its_device_ended_is_taken_over(world):
    world.register(1)
    end = next_day()
    world.registry.deactivate(1, end, {"from": world.registrar})
    with refuses("MeterInUse", keccak(text="meter 1"), 1, end):
        world.register(2, meter_hash=keccak(text="meter 1"), active_from=end - DAY)
    world.register(2, meter_hash=keccak(text="meter 1"), active_from=end)
    assert world.registry.deviceOfMeter(keccak(text="meter 1")) == 2


def test_register_meter_of_ended_device_in_debt_is_refused(world):
    world.register(1)
    end = next_day()
    world.registry.deactivate(1, end, {"from": world.registrar})
    world.indebt(1, 5_000)
    with refuses("DeviceInDebt", 1, 5_000):
        world.register(2, meter_hash=keccak(text="meter 1"), active_from=end)


def test_register_by_stranger_is_refused(world):
    with refuses("AccessManagedUnauthorized", world.stranger.address):
        world.registry.register(1, world.device(), {"from": world.stranger})

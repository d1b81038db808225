"""Energy balance: what a feeder meter saw against the sum of the meters behind it, per slot and UTC day.

What goes in and does not come out is loss. A loss outside its usual bounds means that a meter is wrong, missing from the
sum, or by-passed; which one, no balance can tell. All of it is integer arithmetic over profiles, so every witness
with the same days finds the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .domain import SLOTS_PER_DAY, Profile, Quality
from .sites import BalanceConfig, BalanceEffect


@dataclass(frozen=True, slots=True)
class SlotBalance:
    """One slot (0 to 95) in Wh: what went in, what came out; ``loss_per_mille`` of what went in, None where nothing did."""

    slot: int
    in_wh: int
    out_wh: int

    @property
    def loss_per_mille(self) -> int | None:
        return (self.in_wh - self.out_wh) * 1_000 // self.in_wh if self.in_wh else None


@dataclass(frozen=True, slots=True)
class BalanceDay:
    """A feeder's UTC day: its slots in which every meter has a reading, their sum, and what is to be said about it.

    ``reason`` is empty where the loss is usual; ``judged`` is False where too little is known to say, and ``reason`` then
    says what is missing. ``devices`` are those a finding is about.
    """

    name: str
    start: int
    devices: tuple[int, ...]
    slots: tuple[SlotBalance, ...]
    judged: bool
    reason: str
    effect: BalanceEffect

    @property
    def in_wh(self) -> int:
        return sum(slot.in_wh for slot in self.slots)

    @property
    def out_wh(self) -> int:
        return sum(slot.out_wh for slot in self.slots)

    @property
    def loss_wh(self) -> int:
        return self.in_wh - self.out_wh

    @property
    def loss_per_mille(self) -> int | None:
        return self.loss_wh * 1_000 // self.in_wh if self.in_wh else None

    @property
    def loss_percent(self) -> str:
        """For people: one decimal, or a dash."""
        return "-" if self.loss_per_mille is None else f"{self.loss_per_mille / 10:.1f}"

    @property
    def is_unusual(self) -> bool:
        return self.judged and bool(self.reason)

    @property
    def holds(self) -> bool:
        """Whether the days of its devices wait for a reviewer because of it."""
        return self.is_unusual and self.effect is BalanceEffect.HOLD

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "start": self.start,
            "devices": list(self.devices),
            "compared_slots": len(self.slots),
            "in_wh": self.in_wh,
            "out_wh": self.out_wh,
            "loss_wh": self.loss_wh,
            "loss_per_mille": self.loss_per_mille,
            "judged": self.judged,
            "unusual": self.is_unusual,
            "effect": self.effect.value,
            "reason": self.reason,
            "slots": [
                {"slot": one.slot, "in_wh": one.in_wh, "out_wh": one.out_wh, "loss_per_mille": one.loss_per_mille}
                for one in self.slots
            ],
        }


def balance_day(config: BalanceConfig, start: int, profiles: Mapping[int, Profile]) -> BalanceDay:
    """Balance the day at ``start`` (UTC seconds); ``profiles`` by device id, of those that have one.

    Slots in which a meter has no reading of its own are left out of all sums; fewer than three quarters of a day, or
    less than ``least_wh`` going in, is no ground for a judgement.
    """
    absent = [device for device in config.devices if device not in profiles or profiles[device].start != start]
    slots = () if absent else tuple(_slots(config, profiles))
    day = BalanceDay(config.name, start, config.devices, slots, False, "", config.effect)
    if absent:
        return replace(day, reason="no readings of device " + ", ".join(map(str, absent)))
    if len(slots) * 4 < SLOTS_PER_DAY * 3:
        return replace(day, reason=f"all meters have readings in {len(slots)} of {SLOTS_PER_DAY} slots only")
    if day.loss_per_mille is None or day.in_wh < config.least_wh:
        return replace(day, reason=f"only {day.in_wh} Wh went in; from {config.least_wh} Wh on it is judged")
    low, high = config.min_loss_per_mille, config.max_loss_per_mille
    if low <= day.loss_per_mille <= high:
        return replace(day, judged=True)
    return replace(
        day,
        judged=True,
        reason=f"balance {config.name}: {day.in_wh} Wh went in and {day.out_wh} Wh came out, a loss of "
        f"{day.loss_per_mille / 10:.1f} %; {low / 10:g} to {high / 10:g} % is usual",
    )


def balances(configs: Iterable[BalanceConfig], profiles: Mapping[tuple[int, int], Profile]) -> list[BalanceDay]:
    """Every balance of every day on which its feeder has a profile; ``profiles`` by device id and day start."""
    found = []
    for config in configs:
        for start in sorted(day for device, day in profiles if device == config.feeder):
            of_day = {one: profiles[one, start] for one in config.devices if (one, start) in profiles}
            found.append(balance_day(config, start, of_day))
    return found


def held_by_balance(days: Iterable[BalanceDay]) -> dict[tuple[int, int], list[str]]:
    """Reasons to hold device-days (device id, day start): those of every unusual balance whose effect is hold."""
    reasons: dict[tuple[int, int], list[str]] = {}
    for day in days:
        if day.holds:
            for device in day.devices:
                reasons.setdefault((device, day.start), []).append(day.reason)
    return reasons


def _slots(config: BalanceConfig, profiles: Mapping[int, Profile]) -> Iterable[SlotBalance]:
    # A coarse reading stands whole in its first slot, so such meters are compared over their whole readings.
    span = max(_span(profiles[device]) for device in config.devices)
    for first in range(0, SLOTS_PER_DAY, span):
        part = range(first, first + span)
        if all(profiles[device].quality[slot] & _READ for device in config.devices for slot in part):
            sums = {device: sum(profiles[device].energy_wh[slot] for slot in part) for device in config.devices}
            inner = sum(sums[child] for child in config.children) - sum(sums[child] for child in config.less)
            pair = (inner, sums[config.feeder]) if config.flow == "collects" else (sums[config.feeder], inner)
            yield from (SlotBalance(slot, *(pair if slot == first else (0, 0))) for slot in part)


_READ = Quality.MEASURED | Quality.EDITED


def _span(profile: Profile) -> int:
    """Slots of one reading: 1, or of a coarse day the widest power-of-two span that its energy leaves possible."""
    if not any(quality & Quality.COARSE for quality in profile.quality):
        return 1
    filled = [slot for slot, wh in enumerate(profile.energy_wh) if wh]
    return next((span for span in (8, 4, 2) if all(slot % span == 0 for slot in filled)), 1)

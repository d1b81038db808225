"""What is asked of a class of devices before a day is certified: thresholds with their defaults, as the sites file states them.

docs/validation.md gives reason and source of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ValidationPolicy:
    """Thresholds of the validation rules; docs/validation.md gives reason and source of each. 0 turns a rule off."""

    tare_per_mille: int = 5
    capacity_percent: int = 110
    night_elevation_deg: float = -2.5
    frozen_slots: int = 4
    interpolated_slots: int = 5
    clipped_slots: int = 4
    spike_per_mille: int = 1_800
    outlier_window: int = 9
    sum_tolerance_per_mille: int = 10
    sum_tolerance_wh: int = 100
    low_percent: int = 20
    high_percent: int = 300
    linear_slots: int = 8
    certify_estimated: bool = False
    max_suspect_slots: int = 4


@dataclass(frozen=True, slots=True)
class CorroborationPolicy:
    """Thresholds of corroboration; docs/validation.md gives reason and confusion figures."""

    required: bool = True
    daylight_elevation_deg: float = 5.0
    min_coverage: float = 0.8
    max_implausible_irradiance: float = 0.1
    clear_sky_index: float = 0.8
    clear_ratio: tuple[float, float] = (0.7, 1.2)
    cloudy_ratio: tuple[float, float] = (0.7, 1.45)
    unfitted_ratio: tuple[float, float] = (0.5, 1.5)
    min_history_days: int = 20
    assumed_performance: float = 0.85
    min_correlation: float = 0.5
    max_lag_slots: int = 8
    shift_slots: int = 3
    shift_gain: float = 0.6
    clear_sky_margin: float = 1.25
    max_above_clear_sky: int = 3
    week_ratio: tuple[float, float] = (0.88, 1.12)


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of one class of devices before a day is certified."""

    name: str
    validation: ValidationPolicy = field(default_factory=ValidationPolicy)
    corroboration: CorroborationPolicy = field(default_factory=CorroborationPolicy)


#: Thresholds that a policy starts from, by the class of devices it says it is ``for``. Patterns that betray a
#: broken logger of a solar array (equal values, straight lines, plateaus) are everyday life of a load or a battery,
#: and no irradiance vouches for what the sun does not make.
CLASSES: dict[str, Policy] = {
    "solar": Policy("solar"),
    "generation": Policy(
        "generation",
        ValidationPolicy(frozen_slots=0, interpolated_slots=0, outlier_window=0),
        CorroborationPolicy(required=False),
    ),
    "consumption": Policy(
        "consumption",
        ValidationPolicy(frozen_slots=0, interpolated_slots=0, clipped_slots=0, outlier_window=0),
        CorroborationPolicy(required=False),
    ),
    "storage": Policy(
        "storage",
        ValidationPolicy(frozen_slots=0, interpolated_slots=0, clipped_slots=0, spike_per_mille=0, outlier_window=0),
        CorroborationPolicy(required=False),
    ),
}

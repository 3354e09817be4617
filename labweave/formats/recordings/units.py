"""Units of recordings: everything becomes ms, nA and mV."""

from __future__ import annotations

from labweave.errors import SourceError

_TIME = {"ms": 1.0, "10th_ms": 0.1}
_CURRENT = {"mA": 1e6, "uA": 1e3, "nA": 1.0, "pA": 1e-3}
_VOLTAGE = {"mV": 1.0, "uV": 1e-3}
_TIME_ANY_CASE = {"s": 1e3, "sec": 1e3, "seconds": 1e3}
_CURRENT_ANY_CASE = {"a": 1e9, "amps": 1e9, "amperes": 1e9}
_VOLTAGE_ANY_CASE = {"v": 1e3, "volts": 1e3}


def to_ms(unit) -> float:
    """Factor from a time unit to ms; s in any case, ms and 10th_ms exactly."""
    return _factor("Time", unit, _TIME, _TIME_ANY_CASE)


def to_na(unit) -> float:
    """Factor from a current unit to nA; A in any case, mA, uA, nA and pA exactly."""
    return _factor("Current", unit, _CURRENT, _CURRENT_ANY_CASE)


def to_mv(unit) -> float:
    """Factor from a voltage unit to mV; V in any case, mV and uV exactly."""
    return _factor("Voltage", unit, _VOLTAGE, _VOLTAGE_ANY_CASE)


def _factor(quantity, unit, exact, any_case) -> float:
    if unit in exact:
        return exact[unit]
    if str(unit).lower() in any_case:
        return any_case[str(unit).lower()]
    known = ", ".join([*exact, *any_case])
    raise SourceError(f"{quantity} unit {unit!r} is unknown. Use one of {known}.")

"""Stimulus families (eCodes): which one a protocol belongs to, and where its stimulus is in a sweep.

Each family is a function ``measure(sweep) -> dict`` with timings in ms, amplitudes in nA relative to the
holding current ``hypamp``, and ``timing``: "given", "detected" or "not detected". Numbers follow
BluePyEfe 2.3 except where that is wrong (HyperDePol, Cheops and SineSpec defaults, SpikeRec amplitude).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labweave.ephys.stimulus import generation
from labweave.ephys.stimulus.detection import (
    Detection,
    detect_ramp_end,
    detect_sahp,
    detect_step,
    detect_waveform,
    noise_threshold,
)
from labweave.ephys.stimulus.sweep import BASE_SAMPLES, Sweep, check_order, check_ton, median, outside
from labweave.formats.recordings.notices import StimulusError, UnknownProtocol


@dataclass(frozen=True)
class ECode:
    """One stimulus family.

    Parameters
    ----------
    name : str
    measure : callable
        ``measure(sweep) -> dict``.
    generate : callable
        ``generate(params) -> (t_ms, current_nA)``: the stimulus rebuilt from what ``measure`` and ``export`` name.
    export : tuple of str
        Names of the parameters that describe the stimulus, in order.
    effective : str
        The parameter a target's amplitude is compared with: amp, amp2 or delta.
    step : dict of str to str
        Entries of the stimulus in a protocol description and the parameter behind each.
    """

    name: str
    measure: Callable[[Sweep], dict]
    generate: Callable[[dict], tuple[np.ndarray, np.ndarray]]
    export: tuple[str, ...]
    effective: str = "amp"
    step: tuple[tuple[str, str], ...] = ()


def measure_step(sweep: Sweep) -> dict:
    """One step from ton to toff, given or detected."""
    ton, toff, hypamp, timing = _window(sweep, detect_step)
    amp = sweep.given_amplitude("amp")
    if amp is None:
        amp = median(sweep.current[ton:toff]) - hypamp
    return {**_times(sweep, ton=ton, toff=toff), "amp": amp, "hypamp": hypamp, "timing": timing}


def measure_ramp(sweep: Sweep) -> dict:
    """A ramp from ton (given) to toff (given, or where the current is largest)."""
    ton, toff, timing = sweep.given_index("ton"), sweep.given_index("toff"), "given"
    if ton is None:
        raise StimulusError(f"{sweep.name}: a ramp's start can't be detected. Give ton (ms) in the metadata.")
    check_ton(sweep, ton)
    if toff is None:
        toff, found = detect_ramp_end(sweep, ton)
        timing = "detected" if found else "not detected"
        if not found:
            sweep.warn(f"the end of the ramp was not detected, taken as {sweep.t[toff]:g} ms; give toff")
    check_order(sweep, {"ton": ton, "toff": toff})
    hypamp = _holding(sweep, BASE_SAMPLES)
    amp = sweep.given_amplitude("amp")
    if amp is None:
        amp = median(sweep.current[max(0, toff - 10) : toff]) - hypamp
    return {**_times(sweep, ton=ton, toff=toff), "amp": amp, "hypamp": hypamp, "timing": timing}


def measure_sahp(sweep: Sweep) -> dict:
    """A long step with a short step on top: amp of the long one, amp2 of the short one."""
    keys = ("ton", "tmid", "tmid2", "toff")
    indices = {key: index for key in keys if (index := sweep.given_index(key)) is not None}
    hypamp, amp, amp2 = (sweep.given_amplitude(key) for key in ("hypamp", "amp", "amp2"))
    check_ton(sweep, indices.get("ton"))
    timing = "given"
    if len(indices) < len(keys):
        detection, plateau = detect_sahp(sweep, indices.get("ton"))
        timing = "detected" if detection.found else "not detected"
        if not detection.found:
            sweep.warn("the short step on the long one was not detected; give ton, tmid, tmid2 and toff")
        given = {} if sweep.follows_bluepyefe else indices
        indices = dict(zip(keys, detection.indices, strict=True)) | given
        if not detection.fitted:
            hypamp = sweep.base() if hypamp is None else hypamp
            amp = plateau - hypamp if amp is None else amp
    check_order(sweep, indices)
    ton, tmid, tmid2, toff = indices.values()
    if hypamp is None:
        hypamp = median(outside(sweep.smooth(), ton, toff))
    if amp is None:
        amp = median(np.concatenate([sweep.smooth()[ton:tmid], sweep.smooth()[tmid2:toff]])) - hypamp
    if amp2 is None:
        amp2 = median(sweep.smooth_part(tmid, tmid2)) - hypamp
    return {**_times(sweep, **indices), "amp": amp, "amp2": amp2, "hypamp": hypamp, "timing": timing}


def measure_hyperdepol(sweep: Sweep) -> dict:
    """A hyperpolarising then a depolarising step; missing timings are 250, 700 and 970 ms."""
    return _two_steps(sweep, {"ton": 250.0, "tmid": 700.0, "toff": 970.0})


def measure_dehyperpol(sweep: Sweep) -> dict:
    """A depolarising then a hyperpolarising step, all timings given."""
    return _two_steps(sweep, {"ton": None, "tmid": None, "toff": None})


def measure_poscheops(sweep: Sweep) -> dict:
    """Three triangles upwards."""
    defaults = {"ton": 250.0, "t1": 8250.0, "t2": 10250.0, "t3": 14250.0, "t4": 16250.0, "toff": 18916.0}
    return _triangles(sweep, defaults, np.max)


def measure_negcheops(sweep: Sweep) -> dict:
    """Three triangles downwards."""
    defaults = {"ton": 1750.0, "t1": 8416.0, "t2": 10416.0, "t3": 13748.0, "t4": 15748.0, "toff": 17970.0}
    return _triangles(sweep, defaults, np.min)


def measure_spikerec(sweep: Sweep) -> dict:
    """Short strong pulses; the whole sweep counts as stimulus.

    ``tspike`` (ms, one per pulse) is one sample before the pulse, ``delta`` the mean gap between
    pulses (nan for one pulse), ``spike_duration`` their mean length.
    """
    smooth = sweep.smooth(15)
    hypamp = _holding(sweep, BASE_SAMPLES)
    peak = float(np.max(smooth))
    above = np.flatnonzero(smooth > hypamp + 0.1 * peak)
    amp = sweep.given_amplitude("amp")
    timing = "detected"
    smallest = 1e-5 if sweep.follows_bluepyefe else noise_threshold(sweep, 4.5)
    if len(above) == 0 or peak - hypamp <= smallest:
        timing = "not detected"
        sweep.warn("no pulse was detected")
        above = above[:0]
    pulses = [pulse for pulse in np.split(above, np.flatnonzero(np.diff(above) > 10) + 1) if len(pulse)]
    starts = np.array([pulse[0] for pulse in pulses], dtype=np.float64)
    ends = np.array([pulse[-1] + 1 for pulse in pulses], dtype=np.float64)
    return {
        "ton": 0.0,
        "toff": sweep.tend,
        "tspike": (starts - 1) * sweep.dt,
        "spike_duration": float(np.mean((ends - starts) * sweep.dt)) if pulses else float("nan"),
        "delta": float(np.mean((starts[1:] - ends[:-1]) * sweep.dt)) if len(pulses) > 1 else float("nan"),
        "amp": peak - hypamp if amp is None else amp,
        "hypamp": hypamp,
        "timing": timing,
    }


def measure_sinespec(sweep: Sweep) -> dict:
    """A chirp; missing timings are 150 and 5100 ms."""
    indices, timing = _given_or_default(sweep, {"ton": 150.0, "toff": 5100.0})
    hypamp = _holding(sweep, BASE_SAMPLES)
    amp = sweep.given_amplitude("amp")
    chirp = {"base": 1.0, "scale": 1.0, "denominator": 5.15}
    values = {f"chirp_frequency_{key}": value for key, value in chirp.items()} | {"chirp_time_offset": 0.1}
    for key in values:
        given = sweep.given(key)
        values[key] = values[key] if given is None else float(given)
    return {
        **_times(sweep, **indices),
        "amp": float(np.max(sweep.smooth())) - hypamp if amp is None else amp,
        "hypamp": hypamp,
        **values,
        "timing": timing,
    }


def measure_pinknoise(sweep: Sweep) -> dict:
    """Noise from ton to toff, detected in the filtered current."""
    return _waveform(sweep, sweep.smooth())


def measure_capcheck(sweep: Sweep) -> dict:
    """Short test pulses from ton to toff, detected in the raw current."""
    return _waveform(sweep, sweep.samples)


def _times(sweep: Sweep, **indices: int) -> dict:
    """Sample indices as ms."""
    return {key: float(sweep.t[index]) for key, index in indices.items()}


def _holding(sweep: Sweep, n_samples: int) -> float:
    """Holding current in nA, given or from the first samples."""
    given = sweep.given_amplitude("hypamp")
    return sweep.base(n_samples) if given is None else given


def _window(sweep: Sweep, detect: Callable[[Sweep, int | None, int | None], Detection]):
    """(ton, toff, hypamp, timing), given or detected."""
    ton, toff = sweep.given_index("ton"), sweep.given_index("toff")
    check_ton(sweep, ton)
    if ton is not None and toff is not None:
        check_order(sweep, {"ton": ton, "toff": toff})
        return ton, toff, _holding(sweep, ton), "given"
    detection = detect(sweep, ton, toff)
    start, stop = detection.indices
    found = detection.found
    if start >= stop:
        if ton is not None or toff is not None:
            check_order(sweep, {"ton": start, "toff": stop})
        start, stop, found = 0, len(sweep.t) - 1, False
    if not found:
        window = f"{sweep.t[start]:g} to {sweep.t[stop]:g} ms"
        sweep.warn(f"the stimulus was not detected, taken as {window}; give ton and toff")
    return start, stop, _holding(sweep, detection.n_base), "detected" if found else "not detected"


def _given_or_default(sweep: Sweep, defaults: dict[str, float | None]):
    """Indices of timings, only the missing ones filled with defaults (ms), and the timing flag."""
    indices: dict[str, int] = {}
    missing = []
    for key, default in defaults.items():
        index = sweep.given_index(key)
        if index is None:
            if default is None:
                needed = ", ".join(defaults)
                raise StimulusError(f"{sweep.name}: {key} is missing. Give {needed} (ms) in the metadata.")
            missing.append(f"{key} {default:g} ms")
            index = round(default / sweep.dt)
            if index >= len(sweep.t):
                raise StimulusError(
                    f"{sweep.name}: the usual {key} of {default:g} ms is behind the end of the sweep "
                    f"({sweep.tend:g} ms). Give {', '.join(defaults)} in the metadata."
                )
        indices[key] = index
    check_order(sweep, indices)
    check_ton(sweep, indices["ton"])
    if missing:
        sweep.warn(f"timings are missing, taken as {', '.join(missing)}")
    return indices, "not detected" if missing else "given"


def _two_steps(sweep: Sweep, defaults) -> dict:
    indices, timing = _given_or_default(sweep, defaults)
    ton, tmid, toff = indices.values()
    smooth = sweep.smooth()
    hypamp = sweep.given_amplitude("hypamp")
    if hypamp is None:
        hypamp = median(outside(smooth, ton, toff))
    amp, amp2 = sweep.given_amplitude("amp"), sweep.given_amplitude("amp2")
    return {
        **_times(sweep, **indices),
        "amp": median(smooth[ton:tmid]) - hypamp if amp is None else amp,
        "amp2": median(smooth[tmid:toff]) - hypamp if amp2 is None else amp2,
        "hypamp": hypamp,
        "timing": timing,
    }


def _triangles(sweep: Sweep, defaults, extreme) -> dict:
    indices, timing = _given_or_default(sweep, defaults)
    smooth = sweep.smooth()
    hypamp, amp = sweep.given_amplitude("hypamp"), sweep.given_amplitude("amp")
    if hypamp is None:
        hypamp = median(smooth[: indices["ton"]])
    return {
        **_times(sweep, **indices),
        "amp": float(extreme(smooth)) - hypamp if amp is None else amp,
        "hypamp": hypamp,
        "timing": timing,
    }


def _waveform(sweep: Sweep, current: np.ndarray) -> dict:
    """Timings, amplitude and normalised shape of an irregular stimulus."""
    ton, toff, hypamp, timing = _window(sweep, lambda sweep, ton, toff: detect_waveform(sweep, current, ton, toff))
    segment = sweep.samples[ton:toff] - hypamp
    amp = sweep.given_amplitude("amp")
    if amp is None:
        amp = float(np.max(np.abs(segment)))
    return {
        **_times(sweep, ton=ton, toff=toff),
        "amp": amp,
        "hypamp": hypamp,
        "waveform": segment / amp if amp else segment,
        "timing": timing,
    }


_AMPLITUDES = ("amp", "hypamp", "dt", "amp_rel", "hypamp_rel")
_AMPLITUDES2 = ("amp", "amp2", "hypamp", "dt", "amp_rel", "amp2_rel", "hypamp_rel")
_CHIRP = ("chirp_frequency_base", "chirp_frequency_scale", "chirp_frequency_denominator", "chirp_time_offset")
_CHEOPS = ("ton", "t1", "t2", "t3", "t4", "toff", "tend", *_AMPLITUDES)
_STEP = (
    ("delay", "ton"),
    ("amp", "amp"),
    ("thresh_perc", "amp_rel"),
    ("duration", "toff-ton"),
    ("totduration", "tend"),
)
_STEP_CHEOPS = (_STEP[0], *((key, key) for key in ("t1", "t2", "t3", "t4", "toff")), *_STEP[1:])


def _step_two(percent):
    amplitudes = (("amp", "amp"), ("amp2", "amp2"), ("thresh_perc", percent))
    return (_STEP[0], ("tmid", "tmid"), ("toff", "toff"), *amplitudes, *_STEP[3:])


_STEP_SAHP = (
    *(("delay", "ton"), ("tmid", "tmid"), ("tmid2", "tmid2"), ("toff", "toff")),
    *(
        ("amp", "amp2"),
        ("long_amp", "amp"),
        ("thresh_perc", "amp2_rel"),
        ("duration", "tmid2-tmid"),
        _STEP[4],
    ),
)
_STEP_SPIKEREC = (
    *(("delay", "tspike[0]"), ("n_spikes", "len(tspike)"), ("delta", "delta"), ("amp", "amp")),
    *(("thresh_perc", "amp_rel"), ("spike_duration", "spike_duration"), _STEP[4]),
)

STEP = ECode("Step", measure_step, generation.generate_step, ("ton", "toff", "tend", *_AMPLITUDES), step=_STEP)
RAMP = ECode("Ramp", measure_ramp, generation.generate_ramp, STEP.export, step=_STEP)
SAHP = ECode(
    "SAHP",
    measure_sahp,
    generation.generate_sahp,
    ("ton", "tmid", "tmid2", "toff", "tend", *_AMPLITUDES2),
    "amp2",
    _STEP_SAHP,
)
HYPERDEPOL = ECode(
    "HyperDePol",
    measure_hyperdepol,
    generation.generate_two_steps,
    ("ton", "tmid", "toff", "tend", *_AMPLITUDES2),
    step=_step_two("amp_rel"),
)
DEHYPERPOL = ECode(
    "DeHyperPol", measure_dehyperpol, generation.generate_two_steps, HYPERDEPOL.export, step=_step_two("amp2_rel")
)
POSCHEOPS = ECode("PosCheops", measure_poscheops, generation.generate_triangles, _CHEOPS, step=_STEP_CHEOPS)
NEGCHEOPS = ECode("NegCheops", measure_negcheops, generation.generate_triangles, _CHEOPS, step=_STEP_CHEOPS)
SPIKEREC = ECode(
    "SpikeRec",
    measure_spikerec,
    generation.generate_pulses,
    ("tend", "tspike", "spike_duration", "delta", *_AMPLITUDES),
    "delta",
    _STEP_SPIKEREC,
)
SINESPEC = ECode(
    "SineSpec",
    measure_sinespec,
    generation.generate_chirp,
    (*STEP.export, *_CHIRP),
    step=(*_STEP, *((key, key) for key in _CHIRP)),
)
_EXPORT_WAVEFORM = ("ton", "toff", "tend", "amp", "hypamp", "dt", "waveform", "amp_rel", "hypamp_rel")
_STEP_WAVEFORM = (*_STEP, ("dt", "dt"), ("waveform", "waveform"))
PINKNOISE = ECode("PinkNoise", measure_pinknoise, generation.generate_waveform, _EXPORT_WAVEFORM, step=_STEP_WAVEFORM)
CAPCHECK = ECode("CapCheck", measure_capcheck, generation.generate_waveform, _EXPORT_WAVEFORM, step=_STEP_WAVEFORM)

_STEP_NAMES = (
    "spontaneous idrest idthresh idthres idthreshold apwaveform iv step genericstep spontaps sponaps "
    "firepattern "
    "sponnohold30 sponhold30 spontnohold30 sponthold30 spontaneousnohold starthold startnohold delta"
)
ECODES: dict[str, ECode] = {
    **dict.fromkeys(_STEP_NAMES.split(), STEP),
    **dict.fromkeys(["sahp", "idhyperpol", "irdepol", "irhyperpol", "iddepol"], SAHP),
    **dict.fromkeys(["ramp", "ap_thresh", "apthresh", "apthreshold"], RAMP),
    "hyperdepol": HYPERDEPOL,
    "dehyperpol": DEHYPERPOL,
    "negcheops": NEGCHEOPS,
    "poscheops": POSCHEOPS,
    "spikerec": SPIKEREC,
    "sinespec": SINESPEC,
    "pinknoise": PINKNOISE,
    "capcheck": CAPCHECK,
}
FAMILIES = {ecode.name: ecode for ecode in ECODES.values()}


def find_ecode(protocol_name: str) -> ECode:
    """Stimulus family of a protocol: the first name of `ECODES` the protocol's name contains, in any case.

    Raises
    ------
    UnknownProtocol
        No name fits (also a KeyError).

    Examples
    --------
    >>> from labweave.ephys import find_ecode
    >>> find_ecode("APWaveform_46").name, find_ecode("sAHP").effective
    ('Step', 'amp2')
    """
    lowered = protocol_name.lower()
    for key, ecode in ECODES.items():
        if key in lowered:
            return ecode
    raise UnknownProtocol(
        f"Protocol {protocol_name!r} belongs to no stimulus family. List its file in a mapping, under a name that "
        "contains that of its family: Step, IDrest, IV, APWaveform, sAHP, Ramp, ... (all in the guide to recordings)."
    )

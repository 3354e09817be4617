"""Stimulus families (eCodes): which one a protocol belongs to, and where its stimulus is in a sweep.

Each family has a function ``measure(sweep) -> dict``: timings in ms, amplitudes in nA above the holding current
``hypamp``, and ``timing``: "given", "detected" or "not detected". What is given in a file's metadata wins over what
is measured. Numbers follow BluePyEfe 2.3 except where that is wrong (HyperDePol, Cheops and SineSpec defaults,
SpikeRec amplitude). The table of families is at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

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
from labweave.ephys.stimulus.sweep import BASE_SAMPLES, Sweep, check_order, check_ton, median, median_filter, outside
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
        ``generate(params) -> (t_ms, current_nA)`` rebuilds the stimulus from the parameters named in ``export``.
    export : tuple of str
        Names of the parameters that describe the stimulus, in order.
    effective : str
        The parameter that a target's amplitude is compared with: amp, amp2 or delta.
    step : tuple of (str, str)
        Entries of ``step`` in protocols.json, and the parameter behind each.
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
    amp = _given_or(sweep, "amp", lambda: median(sweep.current[ton:toff]) - hypamp)
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
    amp = _given_or(sweep, "amp", lambda: median(sweep.current[max(0, toff - 10) : toff]) - hypamp)
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
        hypamp = median(outside(sweep.smooth, ton, toff))
    if amp is None:
        amp = median(np.concatenate([sweep.smooth[ton:tmid], sweep.smooth[tmid2:toff]])) - hypamp
    if amp2 is None:
        amp2 = median(sweep.smooth_part(tmid, tmid2)) - hypamp
    return {**_times(sweep, **indices), "amp": amp, "amp2": amp2, "hypamp": hypamp, "timing": timing}


def measure_two_steps(sweep: Sweep, **defaults: float | None) -> dict:
    """Two steps one after the other: amp from ton to tmid, amp2 from there to toff; defaults of timings in ms."""
    indices, timing = _given_or_default(sweep, defaults)
    ton, tmid, toff = indices.values()
    smooth = sweep.smooth
    hypamp = _given_or(sweep, "hypamp", lambda: median(outside(smooth, ton, toff)))
    amp = _given_or(sweep, "amp", lambda: median(smooth[ton:tmid]) - hypamp)
    amp2 = _given_or(sweep, "amp2", lambda: median(smooth[tmid:toff]) - hypamp)
    return {**_times(sweep, **indices), "amp": amp, "amp2": amp2, "hypamp": hypamp, "timing": timing}


def measure_triangles(extreme: Callable, sweep: Sweep, **defaults: float | None) -> dict:
    """Three triangles; amp is the extreme of the current; defaults of timings in ms."""
    indices, timing = _given_or_default(sweep, defaults)
    smooth = sweep.smooth
    hypamp = _given_or(sweep, "hypamp", lambda: median(smooth[: indices["ton"]]))
    amp = _given_or(sweep, "amp", lambda: float(extreme(smooth)) - hypamp)
    return {**_times(sweep, **indices), "amp": amp, "hypamp": hypamp, "timing": timing}


def measure_waveform(current_of: Callable[[Sweep], np.ndarray], sweep: Sweep) -> dict:
    """An irregular stimulus, detected in the filtered or the raw current; its shape is divided by its amplitude."""
    current = current_of(sweep)
    ton, toff, hypamp, timing = _window(sweep, lambda sweep, ton, toff: detect_waveform(sweep, current, ton, toff))
    segment = sweep.samples[ton:toff] - hypamp
    amp = _given_or(sweep, "amp", lambda: float(np.max(np.abs(segment))))
    shape = {"amp": amp, "hypamp": hypamp, "waveform": segment / amp if amp else segment}
    return {**_times(sweep, ton=ton, toff=toff), **shape, "timing": timing}


def measure_spikerec(sweep: Sweep) -> dict:
    """Short strong pulses; the whole sweep counts as stimulus.

    ``tspike`` (ms, one per pulse) is one sample before the pulse, ``delta`` the mean gap between
    pulses (nan for one pulse), ``spike_duration`` their mean length.
    """
    smooth = median_filter(sweep.samples, 15)
    hypamp = _holding(sweep, BASE_SAMPLES)
    peak = float(np.max(smooth))
    above = np.flatnonzero(smooth > hypamp + 0.1 * peak)
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
        "amp": _given_or(sweep, "amp", lambda: peak - hypamp),
        "hypamp": hypamp,
        "timing": timing,
    }


def measure_sinespec(sweep: Sweep) -> dict:
    """A chirp; missing timings are 150 and 5100 ms."""
    indices, timing = _given_or_default(sweep, {"ton": 150.0, "toff": 5100.0})
    hypamp = _holding(sweep, BASE_SAMPLES)
    amp = _given_or(sweep, "amp", lambda: float(np.max(sweep.smooth)) - hypamp)
    chirp = {key: float(value if (given := sweep.given(key)) is None else given) for key, value in _CHIRP.items()}
    return {**_times(sweep, **indices), "amp": amp, "hypamp": hypamp, **chirp, "timing": timing}


def _times(sweep: Sweep, **indices: int) -> dict:
    """Sample indices as ms."""
    return {key: float(sweep.t[index]) for key, index in indices.items()}


def _given_or(sweep: Sweep, key: str, measure: Callable[[], float]) -> float:
    """An amplitude in nA, given or measured."""
    given = sweep.given_amplitude(key)
    return measure() if given is None else given


def _holding(sweep: Sweep, n_samples: int) -> float:
    """Holding current in nA, given or from the first samples."""
    return _given_or(sweep, "hypamp", lambda: sweep.base(n_samples))


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
    """Sample indices of the timings, with defaults (ms) for the missing ones, and ``timing``."""
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


def _family(name, protocols, measure, generate, export, step, effective="amp") -> dict[str, ECode]:
    """The family for each of its words in names of protocols. ``what=parameter`` or ``parameter`` are the entries."""
    entries = (entry.partition("=") for entry in step.split())
    pairs = tuple((what, parameter or what) for what, _, parameter in entries)
    return dict.fromkeys(protocols.split(), ECode(name, measure, generate, tuple(export.split()), effective, pairs))


_CHIRP = {
    "chirp_frequency_base": 1.0,
    "chirp_frequency_scale": 1.0,
    "chirp_frequency_denominator": 5.15,
    "chirp_time_offset": 0.1,
}
_AMP = "amp hypamp dt amp_rel hypamp_rel"
_AMP2 = "amp amp2 hypamp dt amp_rel amp2_rel hypamp_rel"
_STEP = "delay=ton amp thresh_perc=amp_rel duration=toff-ton totduration=tend"
_TWO_STEPS = "delay=ton tmid toff amp amp2 thresh_perc={} duration=toff-ton totduration=tend"
_TRIANGLES = (
    generation.generate_triangles,
    f"ton t1 t2 t3 t4 toff tend {_AMP}",
    "delay=ton t1 t2 t3 t4 toff amp thresh_perc=amp_rel duration=toff-ton totduration=tend",
)
_WAVEFORM = (
    generation.generate_waveform,
    "ton toff tend amp hypamp dt waveform amp_rel hypamp_rel",
    f"{_STEP} dt waveform",
)

# The first word that a protocol's name contains decides, so the order matters: RampStep is a Step.
ECODES: dict[str, ECode] = {
    **_family(
        "Step",
        "spontaneous idrest idthresh idthres idthreshold apwaveform iv step genericstep spontaps sponaps firepattern "
        "sponnohold30 sponhold30 spontnohold30 sponthold30 spontaneousnohold starthold startnohold delta",
        measure_step,
        generation.generate_step,
        f"ton toff tend {_AMP}",
        _STEP,
    ),
    **_family(
        "SAHP",
        "sahp idhyperpol irdepol irhyperpol iddepol",
        measure_sahp,
        generation.generate_sahp,
        f"ton tmid tmid2 toff tend {_AMP2}",
        "delay=ton tmid tmid2 toff amp=amp2 long_amp=amp thresh_perc=amp2_rel duration=tmid2-tmid totduration=tend",
        effective="amp2",
    ),
    **_family(
        "Ramp",
        "ramp ap_thresh apthresh apthreshold",
        measure_ramp,
        generation.generate_ramp,
        f"ton toff tend {_AMP}",
        _STEP,
    ),
    **_family(
        "HyperDePol",
        "hyperdepol",
        partial(measure_two_steps, ton=250.0, tmid=700.0, toff=970.0),
        generation.generate_two_steps,
        f"ton tmid toff tend {_AMP2}",
        _TWO_STEPS.format("amp_rel"),
    ),
    **_family(
        "DeHyperPol",
        "dehyperpol",
        partial(measure_two_steps, ton=None, tmid=None, toff=None),
        generation.generate_two_steps,
        f"ton tmid toff tend {_AMP2}",
        _TWO_STEPS.format("amp2_rel"),
    ),
    **_family(
        "NegCheops",
        "negcheops",
        partial(measure_triangles, np.min, ton=1750.0, t1=8416.0, t2=10416.0, t3=13748.0, t4=15748.0, toff=17970.0),
        *_TRIANGLES,
    ),
    **_family(
        "PosCheops",
        "poscheops",
        partial(measure_triangles, np.max, ton=250.0, t1=8250.0, t2=10250.0, t3=14250.0, t4=16250.0, toff=18916.0),
        *_TRIANGLES,
    ),
    **_family(
        "SpikeRec",
        "spikerec",
        measure_spikerec,
        generation.generate_pulses,
        f"tend tspike spike_duration delta {_AMP}",
        "delay=tspike[0] n_spikes=len(tspike) delta amp thresh_perc=amp_rel spike_duration totduration=tend",
        effective="delta",
    ),
    **_family(
        "SineSpec",
        "sinespec",
        measure_sinespec,
        generation.generate_chirp,
        f"ton toff tend {_AMP} {' '.join(_CHIRP)}",
        f"{_STEP} {' '.join(_CHIRP)}",
    ),
    **_family("PinkNoise", "pinknoise", partial(measure_waveform, attrgetter("smooth")), *_WAVEFORM),
    **_family("CapCheck", "capcheck", partial(measure_waveform, attrgetter("samples")), *_WAVEFORM),
}
FAMILIES = {ecode.name: ecode for ecode in ECODES.values()}


def find_ecode(protocol_name: str) -> ECode:
    """Find the stimulus family of a protocol: the first word of `ECODES` that its name contains, in any case.

    Raises
    ------
    UnknownProtocol
        No word fits (also a KeyError).

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

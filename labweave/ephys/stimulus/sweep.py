"""A sweep and what is given of its stimulus: smoothing, holding current, timings and amplitudes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np

from labweave.errors import ConfigError
from labweave.formats.recordings.notices import StimulusError, StimulusWarning

TIMING_KEYS = ("ton", "tmid", "tmid2", "t1", "t2", "t3", "t4", "toff")
WINDOW = 85  # samples of the median filter that removes noise from the current
BASE_SAMPLES = 300
FEWEST_SAMPLES = 100  # the noise is taken from the first and the last 50
BLUEPYEFE = "bluepyefe"


@dataclass
class Sweep:
    """One sweep in standard units, and what is known of its stimulus beforehand.

    ``metadata`` has timings in ms and amplitudes in the current unit of the sweep; its ``compat`` "bluepyefe" asks for
    the detection of BluePyEfe 2.3, right or wrong. ``reader_data`` is a reader's dict; its timings are sample indices.
    """

    t: np.ndarray  # ms from the start of the sweep, float64, shape (n_samples,)
    current: np.ndarray  # nA, in the precision of the file
    metadata: dict = field(default_factory=dict)
    reader_data: dict = field(default_factory=dict)
    current_factor: float = 1.0  # from the current unit to nA
    name: str = ""  # for messages

    def __post_init__(self):
        if self.metadata.get("compat") not in (None, BLUEPYEFE):
            raise ConfigError(
                f"{self.name}: compat {self.metadata['compat']!r} is unknown. Give {BLUEPYEFE!r}, or leave it out."
            )
        if len(self.t) < FEWEST_SAMPLES:
            raise StimulusError(
                f"{self.name}: the sweep has {len(self.t)} samples, a stimulus needs {FEWEST_SAMPLES}. "
                "Leave this sweep out."
            )

    @property
    def dt(self) -> float:
        """Sampling interval in ms."""
        return float(self.t[1])

    @property
    def tend(self) -> float:
        """Length of the sweep in ms."""
        return len(self.t) * self.dt

    @property
    def follows_bluepyefe(self) -> bool:
        """Whether detection gives BluePyEfe's numbers, also where they are wrong."""
        return self.metadata.get("compat") == BLUEPYEFE

    @cached_property
    def samples(self) -> np.ndarray:
        """Current in nA, float64."""
        return np.asarray(self.current, dtype=np.float64)

    def in_samples(self, duration_ms: float) -> int:
        """Return a duration as a number of samples, at least one."""
        return max(1, int(duration_ms / self.dt))

    @cached_property
    def smooth(self) -> np.ndarray:
        """Median-filtered current in nA, float64, mirrored at the ends."""
        return median_filter(self.samples, WINDOW)

    def smooth_part(self, start: int, stop: int) -> np.ndarray:
        """Samples start to stop of the filtered current, without filtering the rest."""
        first = max(0, start - WINDOW // 2)
        return median_filter(self.samples[first : stop + WINDOW // 2], WINDOW)[start - first : stop - first]

    def base(self, n_samples: int = BASE_SAMPLES) -> float:
        """Holding current in nA: median of the filtered first samples."""
        return median(median_filter(self.samples[:n_samples], WINDOW))

    def given(self, key):
        """Return the value in the metadata, else the reader's, else None."""
        value = self.metadata.get(key)
        return self.reader_data.get(key) if value is None else value

    def given_amplitude(self, key) -> float | None:
        """Return a given amplitude in nA, or None."""
        value = self.given(key)
        return None if value is None else float(value) * self.current_factor

    def given_index(self, key) -> int | None:
        """Return a given timing as sample index, or None.

        A ``toff`` at or behind the end becomes the last sample; other timings outside the sweep are a StimulusError.
        """
        value = self.metadata.get(key)
        if value is not None:
            index = round(float(value) / self.dt)
        elif self.reader_data.get(key) is not None:
            index = int(self.reader_data[key])
        else:
            return None
        last = len(self.t) - 1
        if key == "toff" and index > last:
            if index > last + 1:
                self.warn(f"toff {value} is behind the end of the sweep ({self.tend:g} ms), clipped to it")
            return last
        if not 0 <= index <= last:
            raise StimulusError(
                f"{self.name}: {key} {value} is outside the sweep (0 to {self.tend:g} ms). "
                f"Correct {key} in the metadata."
            )
        return index

    def warn(self, message: str) -> None:
        """Warn about this sweep."""
        warnings.warn(f"{self.name}: {message}.", StimulusWarning, stacklevel=2)


def median_filter(values, window: int) -> np.ndarray:
    """Running median over an odd window of samples, float64, mirrored at both ends."""
    from scipy.ndimage import median_filter as running_median

    return running_median(np.asarray(values, dtype=np.float64), size=window, mode="reflect")


def median(values) -> float:
    """Return the median as a plain float."""
    return float(np.median(values))


def check_order(sweep: Sweep, indices: dict[str, int]) -> None:
    """Refuse timings that don't increase in the order of the dict: StimulusError."""
    keys = list(indices)
    for earlier, later in pairwise(keys):
        if indices[later] <= indices[earlier]:
            raise StimulusError(
                f"{sweep.name}: {later} ({sweep.t[indices[later]]:g} ms) is not after "
                f"{earlier} ({sweep.t[indices[earlier]]:g} ms). Correct the timings in the metadata."
            )


def check_ton(sweep: Sweep, ton: int | None) -> None:
    """Refuse a stimulus that starts with the sweep when nobody gave the holding current: StimulusError."""
    if ton == 0 and sweep.given("hypamp") is None:
        raise StimulusError(
            f"{sweep.name}: ton is 0, so no sample shows the holding current. "
            "Give hypamp in the metadata, or correct ton."
        )


def outside(values, ton: int, toff: int) -> np.ndarray:
    """Return the samples before ton and from toff on."""
    return np.concatenate([values[:ton], values[toff:]])

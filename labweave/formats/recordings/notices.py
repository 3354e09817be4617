"""Warnings that concern results of electrophysiology, and the errors its parts share."""

from __future__ import annotations

from labweave.errors import ComputeError


class EphysWarning(UserWarning):
    """Root of the warnings of labweave.ephys."""


class StimulusWarning(EphysWarning):
    """The stimulus of a sweep is uncertain: not detected, clipped, or filled with defaults."""


class ReadingWarning(EphysWarning):
    """A file that could not be read was left out."""


class RheobaseWarning(EphysWarning):
    """A rheobase is missing or suspicious."""


class FeatureWarning(EphysWarning):
    """A target, feature or stimulus is absent from a result."""


class UnknownProtocol(ComputeError, KeyError):
    """No stimulus family has this protocol name."""

    def __str__(self):
        return str(self.args[0])


class StimulusError(ComputeError):
    """Timings or amplitudes of a stimulus that contradict the sweep."""


class UnknownFeature(ComputeError, ValueError):
    """A feature name eFEL does not have."""

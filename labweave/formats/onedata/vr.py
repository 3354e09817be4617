"""Sessions of VR imaging experiments: suite2p's output, registered values, built-in loaders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any

import numpy as np

from labweave.errors import ReadError
from labweave.formats.onedata import registry, suite2p
from labweave.formats.onedata.arrays import read_npy, read_sparse, to_dense
from labweave.formats.onedata.errors import NotRegistered
from labweave.formats.onedata.names import check_part, split_folder
from labweave.formats.onedata.recipe import LoadingRecipe, plain_recipe
from labweave.formats.onedata.session import SessionData
from labweave.formats.writing import whole_file

OPTIONS, PREPROCESSING, VALUES = (f"vrExperiment{name}.json" for name in ("Options", "Preprocessing", "Values"))
"""What registration writes beside the variables."""

SPIKES = {
    "oasis": ("mpci.roiActivityDeconvolvedOasis", False),
    "deconvolved": ("mpci.roiActivityDeconvolved", False),
    "raw": ("mpci.roiActivityF", False),
    "neuropil": ("mpci.roiNeuropilActivityF", False),
    "significant": ("mpci.roiSignificantFluorescence", True),
    "sigbase": ("mpci.roiSignificantFluorescenceBase", True),
    "sigrebase": ("mpci.roiSignificantFluorescenceRebase", True),
}
"""Kind of spikes -> variable that holds them, and whether it is sparse."""


@dataclass(eq=False)
class OneDataSession(SessionData):
    """A session in a folder ``root/mouse/date/id``, or ``root/mouse/date``, usable as it is.

    Recipes are followed with the loaders and transforms that labweave has and those that are registered. Registered
    values, options and steps are read from their JSON files when these are there.

    Parameters
    ----------
    mouse_name, date, session_id
        As of `SessionData`.
    root : path, default: current folder
        Data root.
    folder : path, optional
        The session's folder, instead of the one below `root` that its names say.
    spks_type : str, default: "significant"
        Which spikes `spks` gives: oasis, deconvolved, raw, neuropil, significant, sigbase, sigrebase or corrected.
    neuropil_coefficient : float, optional
        Share of the neuropil that `loadfcorr` takes off; the option of the registration when it is not given.
    cache_bytes, trust_pickles
        As of `SessionData`.

    Attributes
    ----------
    opts : dict
        Options of the registration.
    preprocessing : list
        Steps of it that are done.

    Examples
    --------
    >>> from labweave.formats.onedata import OneDataSession
    >>> session = OneDataSession("CR04", "2026-03-01", "701", root="data")
    >>> session.saveone([0.0, 0.5, 1.0], "mpci", "times")
    >>> session.print_saved_one()
    ['mpci.times']
    >>> session.timestamps
    array([0. , 0.5, 1. ])
    """

    root: Path | str = field(default=".", kw_only=True, repr=False)
    folder: Path | str | None = field(default=None, kw_only=True, repr=False)
    spks_type: str = field(default="significant", kw_only=True, repr=False)
    neuropil_coefficient: float | None = field(default=None, kw_only=True, repr=False)
    opts: dict[str, Any] = field(init=False, repr=False)
    preprocessing: list[str] = field(init=False, repr=False)

    @classmethod
    def open(cls, folder: str | Path, **options: Any) -> OneDataSession:
        """Open the session of a folder, whose path says mouse, date and id."""
        place = split_folder(Path(folder).absolute())
        return cls(place.mouse_name, place.date, place.session_id or None, folder=folder, **options)

    def _init_data_path(self) -> Path:
        if self.folder is not None:
            return Path(self.folder)
        parts = [check_part(self.mouse_name, "mouse name"), self.date]
        if self.session_id:
            parts.append(check_part(self.session_id, "session id"))
        return Path(self.root, *parts)

    def _additional_loading(self) -> None:
        """Read what the registration wrote."""
        self.opts = self._read_json(OPTIONS, dict) or {}
        self.preprocessing = self._read_json(PREPROCESSING, list) or []
        self.values = SimpleNamespace(**(self._read_json(VALUES, dict) or {}))

    def _read_json(self, name: str, kind: type) -> Any:
        path = self.data_path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise ReadError(path, f"no JSON ({error})", "Register the session again.") from None
        if not isinstance(content, kind):
            raise ReadError(path, f"a {type(content).__name__} instead of a {kind.__name__}", "Register it again.")
        return content

    @property
    def is_registered(self) -> bool:
        """Whether the registration has written its options."""
        return (self.data_path / OPTIONS).is_file()

    def require_registered(self) -> None:
        """Raise NotRegistered, a ValueError, unless the session is registered."""
        if not self.is_registered:
            raise NotRegistered(f"{self.data_path} has no {OPTIONS}: the session is not registered. Register it first.")

    def save_session_prms(self) -> None:
        """Write options, steps and values into their JSON files, each whole or not at all.

        Raises
        ------
        TypeError
            One of them holds what JSON can't; nothing is written then.
        """
        texts = {
            name: json.dumps(content, ensure_ascii=False, default=_to_json)
            for name, content in (
                (OPTIONS, self.opts),
                (PREPROCESSING, self.preprocessing),
                (VALUES, vars(self.values)),
            )
        }
        for name, text in texts.items():
            with whole_file(self.data_path / name) as half_made:
                half_made.write_text(text, encoding="utf-8")

    @property
    def recipe_loaders(self) -> Mapping[str, Callable[..., Any]]:
        """The registered loaders, for this session."""
        return {name: MethodType(function, self) for name, function in registry.loaders().items()}

    @property
    def recipe_transforms(self) -> Mapping[str, Callable[..., Any]]:
        """The registered transforms."""
        return registry.transforms()

    def beside(self, mouse_name: str, date: str, session_id: str | None = None) -> OneDataSession:
        """Return another session of the same data root."""
        return OneDataSession(
            mouse_name,
            date,
            session_id,
            root=self.data_path.parents[len(self.session_name) - 1],
            cache_bytes=0,
            trust_pickles=self.trust_pickles,
        )

    # ---- imaging

    def load_s2p(self, name: str, concatenate: bool = True) -> Any:
        """Load a variable of suite2p from all planes, joined in the order of the registration."""
        return suite2p.load_s2p(self, name, concatenate)

    def get_roi_position(self, mode: Any = "weightedmean") -> np.ndarray:
        """Return x, y (pixels) and plane of each ROI."""
        return suite2p.roi_positions(self, mode)

    def get_plane_idx(self) -> np.ndarray:
        """Return the number of the plane of each ROI, as uint8."""
        if hasattr(self.values, "roiPerPlane"):
            counts = [int(n) for n in self.values.roiPerPlane]
        else:
            counts = [len(stat) for stat in self.load_s2p("stat", concatenate=False)]
        return np.repeat(np.array(suite2p.plane_ids(self), np.uint8), counts)

    def loadfcorr(self, mean_adjusted: bool = True, try_from_one: bool = True) -> np.ndarray:
        """Return fluorescence without the neuropil's, (ROIs, frames).

        Parameters
        ----------
        mean_adjusted : bool, default: True
            Take off only how the neuropil differs from its mean over time.
        try_from_one : bool, default: True
            Take the saved variables when they are there, not suite2p's files.
        """
        saved = {f"{SPIKES[kind][0]}.npy" for kind in ("raw", "neuropil")}
        if try_from_one and saved <= set(self.print_saved_one(include_extension=True)):
            fluorescence, neuropil = (self.loadone(SPIKES[kind][0]).T for kind in ("raw", "neuropil"))
        else:
            fluorescence, neuropil = (self.load_s2p(name) for name in ("F", "Fneu"))
        coefficient = self.neuropil_coefficient
        if coefficient is None:
            if "neuropilCoefficient" not in self.opts:
                raise NotRegistered(
                    f"{self.data_path}: no neuropil coefficient, the session has no {OPTIONS}. "
                    "Give neuropil_coefficient."
                )
            coefficient = self.opts["neuropilCoefficient"]
        if mean_adjusted:
            neuropil = neuropil - np.mean(neuropil, axis=1, keepdims=True)
        return fluorescence - coefficient * neuropil

    @property
    def spks(self) -> np.ndarray:
        """Spikes of the kind `spks_type`, (frames, ROIs)."""
        if self.spks_type == "corrected":
            return self.loadfcorr().T
        if self.spks_type not in SPIKES:
            raise ValueError(f"{self.spks_type!r} is no kind of spikes. There are: {', '.join(SPIKES)} and corrected.")
        name, is_sparse = SPIKES[self.spks_type]
        return self.loadone(name, sparse=is_sparse)

    # ---- behaviour

    @property
    def timestamps(self) -> np.ndarray:
        """Time of each imaging frame, in s."""
        return self.loadone("mpci.times")

    @property
    def positions(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each sample of the position: its time in s, the position, its trial from 0, its imaging frame."""
        position = self.loadone("positionTracking.position")
        starts = self.loadone("trials.positionTracking")
        trials = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(position)))
        return self.loadone("positionTracking.times"), position, trials, self.loadone("positionTracking.mpci")

    @property
    def trial_environment(self) -> np.ndarray:
        """Environment of each trial; -1 where it is not known."""
        return self.loadone("trials.environmentIndex")

    @property
    def environments(self) -> np.ndarray:
        """The environments that occur."""
        return np.unique(self.trial_environment)

    @property
    def env_length(self) -> np.ndarray:
        """Length of the room in each trial."""
        saved = self.print_saved_one()
        return self.loadone("trials.roomlength" if "trials.roomlength" in saved else "trials.roomLength")

    @property
    def num_trials(self) -> int:
        """Trials, as registered."""
        return self.get_value("numTrials")

    def spontaneous_length(self) -> float:
        """Return how long imaging went on after the last sample of the position, in s."""
        return float(self.timestamps[-1] - self.loadone("positionTracking.times").max())

    def has_spontaneous(self, threshold: float = 60.0) -> bool:
        """Say whether imaging went on for more than `threshold` seconds."""
        return self.spontaneous_length() > threshold

    def get_red_idx(self) -> np.ndarray:
        """Return which ROIs are red cells: as found over all sessions where that is saved, else in this one."""
        coherent = "mpciROIs.redCellIdxCoherent"
        return self.loadone(coherent if coherent in self.print_saved_one() else "mpciROIs.redCellIdx")


@dataclass(eq=False)
class B2Session(OneDataSession):
    """A `OneDataSession` that must be registered, as in vrAnalysis.

    Parameters
    ----------
    for_registration : bool, default: False
        It need not be registered, and nothing is read from its folder.
    """

    for_registration: bool = field(default=False, kw_only=True, repr=False)

    @classmethod
    def create(
        cls,
        mouse_name: str,
        date: Any,
        session_id: str,
        params: Mapping[str, Any] | None = None,
        for_registration: bool = False,
        **options: Any,
    ) -> B2Session:
        """Open a registered session.

        Parameters
        ----------
        mouse_name, date, session_id
            As of `SessionData`.
        params : dict, optional
            ``spks_type`` and ``neuropil_coefficient`` of `OneDataSession`.
        for_registration : bool, default: False
            See the class.
        **options
            Other keywords of `OneDataSession`.

        Raises
        ------
        TypeError
            There is no session id.
        ValueError
            Other params.
        NotRegistered
        """
        if not isinstance(session_id, str):
            raise TypeError("A B2Session needs a session id.")
        if params is not None and not isinstance(params, Mapping):
            raise ValueError(f"params must be a dictionary, not a {type(params).__name__}.")
        if unknown := sorted(set(params or {}) - {"spks_type", "neuropil_coefficient"}):
            raise ValueError(f"params has no {', '.join(unknown)}; there are spks_type and neuropil_coefficient.")
        return cls(mouse_name, date, session_id, for_registration=for_registration, **(params or {}), **options)

    def _additional_loading(self) -> None:
        if self.for_registration:
            self.opts, self.preprocessing = {}, []
            return
        self.require_registered()
        super()._additional_loading()


def load_file(path: str | Path, *, mmap: bool = False, keep_sparse: bool = False, trust_pickles: bool = False) -> Any:
    """Load the file of a variable; when it is a recipe, the path says of which session it is.

    Parameters
    ----------
    path : path
        ``.../mouse/date/id/oneData/name.npy`` or ``.npz``.
    mmap, keep_sparse
        As of `SessionData.loadone`.
    trust_pickles
        As of `SessionData`.
    """
    path = Path(path)
    if path.suffix == ".npz":
        array = read_sparse(path)
        return array if keep_sparse else to_dense(array, path)
    array = read_npy(path, mmap=mmap, trust_pickles=trust_pickles)
    if not LoadingRecipe.is_recipe(array):
        return array
    session = OneDataSession.open(path.parent.parent, cache_bytes=0, trust_pickles=trust_pickles)
    return session.follow(plain_recipe(array.item(), path.name), path.name, mmap=mmap)


def _to_json(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} can't be written as JSON")

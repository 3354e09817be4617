"""Figures: what is drawn is what was recorded, whatever the number of sweeps, and files have safe names."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from simulated import AMPLITUDES, spikes, sweeps_of
from synthetic import sweep

from labweave.ephys import plots
from labweave.ephys.recording import Recording


def cell_of(n_sweeps, protocol="IDrest", name="cell1", rheobase=0.1):
    """Sweep k has k spikes 20 ms apart and a step of 10 pA (k + 1), and comes in reverse order."""
    recordings = []
    for k in reversed(range(n_sweeps)):
        times = [210.0 + 20 * i for i in range(k % 20)]
        recordings.append(Recording(protocol, {"ton": 200, "toff": 700}, sweep(0.01 * (k + 1), times, id=f"sweep {k}")))
        if rheobase:
            recordings[-1].compute_relative_amp(rheobase)
        recordings[-1].efeatures = {"Spikecount": float(k % 20), "AP_amplitude": 50.0 + k if k else np.nan}
    return SimpleNamespace(name=name, rheobase=rheobase, recordings=recordings)


def pages(path):
    return len(re.findall(rb"/Type /Page\b", path.read_bytes()))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def panels(figure):
    """Pairs of current and voltage axes."""
    return list(zip(figure.axes[::2], figure.axes[1::2], strict=True))


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=400), st.integers(1, 50))
def test_decimation_keeps_the_extremes_of_every_column_the_order_and_the_ends(values, n_columns):
    samples, t = np.array(values, dtype=float), np.arange(len(values)) * 0.1
    kept_t, kept = plots.decimate(t, samples, n_columns)
    assert len(kept) <= 2 * n_columns + 2 and kept[0] == samples[0] and kept[-1] == samples[-1]
    assert kept.min() == samples.min() and kept.max() == samples.max()
    assert (np.diff(kept_t) > 0).all()
    assert (samples[np.searchsorted(t, kept_t)] == kept).all()


def test_no_spike_is_lost_where_many_samples_share_a_column():
    t, voltage = np.arange(60_000) * 0.05, np.full(60_000, -70.0)
    peaks = np.arange(1000, 60_000, 997)
    voltage[peaks] = 30.0
    kept_t, kept = plots.decimate(t, voltage, 400)
    assert kept_t[kept == 30.0] == pytest.approx(t[peaks])


@pytest.mark.parametrize(("n_sweeps", "n_pages"), [(1, 1), (2, 1), (12, 1), (13, 2), (30, 3)])
def test_twelve_sweeps_on_a_page(tmp_path, n_sweeps, n_pages):
    (path,) = plots.plot_cell_recordings(cell_of(n_sweeps), tmp_path)
    assert path == tmp_path / "cell1" / "cell1_IDrest_recordings.pdf"
    assert pages(path) == n_pages
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_panels_show_the_sweeps_sorted_by_amplitude():
    cell = cell_of(13)
    figures = list(plots.draw_recordings(cell, "IDrest"))
    assert [len(panels(figure)) for figure in figures] == [12, 1]
    assert figures[1].texts[0].get_text() == "cell1, IDrest: 13 sweeps, rheobase 0.1 nA (page 2 of 2)"
    assert legend(figures[0]) == ["current", "stimulus", "voltage", "spike"]
    for k, (current, voltage) in enumerate(panels(figures[0]) + panels(figures[1])):
        counted = "1 spike" if k == 1 else f"{k} spikes"
        amplitude = f"{0.01 * (k + 1):.3g} nA"
        assert current.get_title(loc="left") == f"sweep {k}\n{amplitude}, {10 * (k + 1)} %, {counted}"
        stimulus, marks = current.lines[1], voltage.lines[1]
        assert marks.get_xdata() == pytest.approx([210.0 + 20 * i for i in range(k)], abs=0.11)
        at = np.interp([100, 450, 900], *stimulus.get_data())
        assert at == pytest.approx([-0.05, 0.01 * (k + 1) - 0.05, -0.05])
        edges = stimulus.get_xdata()[1:][np.diff(stimulus.get_ydata()) != 0]
        assert edges == pytest.approx([200, 700], abs=3.0)  # a column is 3 ms
        trace = voltage.lines[0].get_ydata()
        assert trace.min() == -70 and trace.max() == (pytest.approx(30) if k else -70)


def test_all_panels_of_a_protocol_share_their_scales():
    figures = list(plots.draw_recordings(cell_of(14), "IDrest"))
    every = [pair for figure in figures for pair in panels(figure)]
    assert len({axes.get_ylim() for axes, _ in every}) == len({axes.get_ylim() for _, axes in every}) == 1
    assert {axes.get_xlim() for pair in every for axes in pair} == {(0.0, 1000.0)}
    low, high = every[0][1].get_ylim()
    assert low < -70 and high > 30
    labels = [axes.get_ylabel() for pair in every for axes in pair]
    assert labels.count("I (nA)") == labels.count("V (mV)") == 4  # left ones: three rows, and one on the second page


def test_a_simulated_cell_is_drawn_with_its_spikes():
    recordings = [Recording("IDrest", {}, {**one, "id": str(i)}) for i, one in enumerate(sweeps_of(0))]
    cell = SimpleNamespace(name="sim", rheobase=None, recordings=recordings)
    (figure,) = plots.draw_recordings(cell, "IDrest")
    assert figure.texts[0].get_text() == f"sim, IDrest: {len(AMPLITUDES)} sweeps"
    for one, (_, voltage) in zip(sweeps_of(0), panels(figure), strict=True):
        assert len(voltage.lines[1].get_xdata()) == spikes(one)


def test_a_stimulus_that_was_not_detected_is_not_drawn_and_the_title_says_so():
    cell = cell_of(2)
    cell.recordings[0].timing = "not detected"
    (figure,) = plots.draw_recordings(cell, "IDrest")
    (found, _), (lost, _) = panels(figure)
    assert len(found.lines) == 2 and len(lost.lines) == 1
    assert lost.get_title(loc="left") == "sweep 1\nstimulus not detected"


def test_two_hundred_long_sweeps_stay_a_small_file(tmp_path):
    random = np.random.default_rng(0)
    t = np.arange(60_000) * 0.05
    one = Recording("IDrest", {"ton": 200, "toff": 700}, sweep())
    one.t, one.dt, one.tend, one.ton, one.toff, one.amp = t, 0.05, 3000.0, 700.0, 2700.0, 0.2
    one.current = random.normal(0, 0.002, len(t)) + np.where((t >= 700) & (t < 2700), 0.15, -0.05)
    one.voltage = random.normal(-70, 0.2, len(t))
    one.voltage[15_000:54_000:500] = 30.0
    one.peak_time = t[15_000:54_000:500]
    cell = SimpleNamespace(name="c", rheobase=None, recordings=[one] * 200)
    (path,) = plots.plot_cell_recordings(cell, tmp_path)
    assert pages(path) == 17
    assert path.stat().st_size < 3e6


def test_png_has_a_file_for_each_page(tmp_path):
    paths = plots.plot_cell_recordings(cell_of(13), tmp_path, "png")
    assert [path.name for path in paths] == ["cell1_IDrest_recordings_1.png", "cell1_IDrest_recordings_2.png"]
    assert {matplotlib.image.imread(path).shape[1] for path in paths} == {1753}  # 11.69 inches, 150 dpi
    assert [path.name for path in plots.plot_firing_rates(cell_of(3), tmp_path, "png")] == ["cell1_firing_rates.png"]


def test_firing_rates_are_spikes_over_the_length_of_the_step():
    cell = cell_of(5)
    figure = plots.draw_firing_rates(cell)
    points, means, rheobase = figure.axes[0].lines
    assert points.get_xydata() == pytest.approx(np.array([[0.01 * (k + 1), 2 * k] for k in (4, 3, 2, 1, 0)]))
    assert means.get_xydata() == pytest.approx(np.array([[0.01 * (k + 1), 2 * k] for k in range(5)]))
    assert list(rheobase.get_xdata()) == [0.1, 0.1]
    assert legend(figure) == ["IDrest, 5 sweeps of 500 ms", "rheobase 0.1 nA"]
    assert figure.axes[0].get_ylabel() == "firing rate in the step (Hz)"


def test_repeated_steps_of_noisy_amplitude_are_averaged():
    cell = cell_of(4, rheobase=None)
    for recording, amplitude in zip(cell.recordings, (0.3, 0.1, 0.1004, 0.2), strict=True):
        recording.amp = amplitude
    _, means = plots.draw_firing_rates(cell).axes[0].lines
    assert means.get_xydata() == pytest.approx(np.array([[0.1002, 3.0], [0.2, 0.0], [0.3, 6.0]]))


def target(efeature, amplitude, mean, std, n, tolerance=10.0):
    return SimpleNamespace(
        efeature_name=efeature, efel_feature_name=efeature, amplitude=amplitude, tolerance=tolerance,
        mean=mean, std=std, sample_size=n,
    )  # fmt: skip


def test_an_efeature_over_nanoamperes_and_percent_of_rheobase():
    cells = [cell_of(4, name="a"), cell_of(3, name="b", rheobase=0.2)]
    figure = plots.draw_efeature(cells, "IDrest", "AP_amplitude", relative=False)
    first, second = figure.axes[0].lines
    assert first.get_xydata() == pytest.approx(np.array([[0.04, 53], [0.03, 52], [0.02, 51]]))  # the nan is left out
    assert second.get_xydata() == pytest.approx(np.array([[0.03, 52], [0.02, 51]]))
    assert figure.axes[0].get_title() == "2 cells, IDrest: 5 sweeps"
    assert figure.axes[0].get_xlabel() == "amplitude above holding (nA)"
    assert figure.axes[0].get_ylabel() == "AP_amplitude (mV)"
    assert legend(figure) == ["a", "b"]
    bar = target("AP_amplitude", 30.0, 51.5, 0.5, 2)
    figure = plots.draw_efeature(cells, "IDrest", "AP_amplitude", relative=True, targets=[bar], show_legend=False)
    axes = figure.axes[0]
    assert axes.lines[1].get_xydata() == pytest.approx(np.array([[15, 52], [10, 51]]))
    across, up = (bars.get_segments()[0] for bars in axes.containers[0].lines[2])
    assert across == pytest.approx(np.array([[20, 51.5], [40, 51.5]]))
    assert up == pytest.approx(np.array([[30, 51], [30, 52]]))
    assert axes.texts[0].get_text() == "n=2"
    assert axes.get_xlabel() == "amplitude (% of rheobase)"
    assert figure.legends == []


def names_below(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def protocols():
    targets = [target("AP_amplitude", 30.0, 52.0, 1.0, 2), target("no_such", 30.0, np.nan, np.nan, 0)]
    return [SimpleNamespace(name="IDrest", feature_targets=targets)]


def test_every_efeature_for_all_cells_and_for_each(tmp_path):
    cells = [cell_of(4, name="a"), cell_of(3, name="b", rheobase=None)]
    written = plots.plot_all_efeatures(cells, protocols(), tmp_path)
    assert names_below(tmp_path) == {
        "legend.pdf",
        "IDrest_AP_amplitude_amp.pdf",
        "IDrest_AP_amplitude_amp_rel.pdf",
        "a/a_IDrest_AP_amplitude_amp.pdf",
        "a/a_IDrest_AP_amplitude_amp_rel.pdf",
        "b/b_IDrest_AP_amplitude_amp.pdf",
    }
    assert {path.relative_to(tmp_path).as_posix() for path in written} == names_below(tmp_path)
    assert all(pages(path) == 1 for path in written)


def test_files_of_a_single_cell_are_in_its_folder(tmp_path):
    plots.plot_all_efeatures([cell_of(4, name="B6")], protocols(), tmp_path)
    assert names_below(tmp_path) == {
        "legend.pdf",
        "B6/B6_IDrest_AP_amplitude_amp.pdf",
        "B6/B6_IDrest_AP_amplitude_amp_rel.pdf",
    }


@pytest.mark.parametrize(
    ("absolute", "amplitude", "in_na", "in_percent"), [(False, 30.0, 0.03, 30.0), (True, 0.02, 0.02, 20.0)]
)
def test_a_target_is_at_the_same_stimulus_on_both_axes(tmp_path, monkeypatch, absolute, amplitude, in_na, in_percent):
    drawn = {}

    def keep(figures, path):
        drawn[path.name] = next(iter(figures))
        return [path]

    monkeypatch.setattr("labweave.ephys.plots.efeatures.write_figures", keep)
    wanted = [SimpleNamespace(name="IDrest", feature_targets=[target("AP_amplitude", amplitude, 52, 1, 2)])]
    plots.plot_all_efeatures([cell_of(4, name="c")], wanted, tmp_path, absolute_amplitude=absolute)
    for suffix, expected in (("amp", in_na), ("amp_rel", in_percent)):
        (mean,) = drawn[f"c_IDrest_AP_amplitude_{suffix}.pdf"].axes[0].containers
        assert mean.lines[0].get_xdata() == pytest.approx([expected])


@pytest.mark.parametrize("name", ["../../etc", "a/b", "..", ".", "", "a b", "a\\b", "C:x", "x" * 300, "ü" * 100, "a\n"])
def test_names_of_files_stay_below_the_folder(tmp_path, name):
    safe = plots.file_name(name)
    assert re.fullmatch(r"[\w+-][\w.+-]*", safe) and len(safe.encode()) < 70
    (path,) = plots.plot_cell_recordings(cell_of(1, name=name, protocol="IDrest/../x"), tmp_path / "out")
    assert path.resolve().is_relative_to(tmp_path / "out" / safe)
    assert names_below(tmp_path) == {path.relative_to(tmp_path).as_posix()}


def test_names_that_differ_only_in_what_is_replaced_give_different_files():
    names = ["a b", "a/b", "a_b", "a:b", "x" * 100, "x" * 101]
    assert len({plots.file_name(name) for name in names}) == len(names)
    assert plots.file_name("C060109A1-SR-C1") == "C060109A1-SR-C1"


def test_names_are_shown_as_they_are(tmp_path):
    cells = [cell_of(2, name="_a $x_1$"), cell_of(2, name="$\\unknown{")]
    figure = plots.draw_efeature(cells, "IDrest", "Spikecount", relative=False)
    assert legend(figure) == ["_a $x_1$", "$\\unknown{"]
    assert plots.plot_cell_recordings(cells[1], tmp_path)[0].exists()
    plots.draw_efeature(cells, "IDrest", "Spikecount", relative=True).savefig(tmp_path / "x.png")


def test_an_older_figure_is_kept_until_the_new_one_is_complete(tmp_path):
    cell = cell_of(13)
    (path,) = plots.plot_cell_recordings(cell, tmp_path)
    before = path.read_bytes()
    del cell.recordings[0].peak_time, cell.recordings[0].voltage
    cell.recordings[0].voltage = np.array([], dtype=float)
    with pytest.raises(ValueError):
        plots.plot_cell_recordings(cell, tmp_path)
    assert path.read_bytes() == before and names_below(tmp_path) == {"cell1/cell1_IDrest_recordings.pdf"}


def test_the_same_figure_is_the_same_file(tmp_path):
    first, second = (plots.plot_cell_recordings(cell_of(2), tmp_path / name)[0] for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_several_threads_draw_what_one_draws(tmp_path):
    cells = [cell_of(3 + index, name=f"c{index}") for index in range(6)]
    alone = [plots.plot_cell_recordings(cell, tmp_path / "alone")[0].read_bytes() for cell in cells]
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda cell: plots.plot_cell_recordings(cell, tmp_path / "threads")[0], cells))
    assert [path.read_bytes() for path in paths] == alone


def test_drawing_needs_no_pyplot():
    code = "import sys, labweave.ephys.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def chirp_of(resistance_mohm, tau_ms, noise_mv=0.05):
    """Response of a resistor beside a capacitor to a chirp from 1 to 30 Hz within 10 s."""
    dt = 0.1
    t = np.arange(0, 10_500, dt)
    seconds = np.clip((t - 250) / 1000, 0, 10)
    current = np.where((t >= 250) & (t < 10_250), 0.05 * np.sin(2 * np.pi * (1.0 * seconds + 1.45 * seconds**2)), 0.0)
    decay = np.exp(-dt / tau_ms)
    voltage = lfilter([resistance_mohm * (1 - decay)], [1, -decay], current) - 70
    voltage += np.random.default_rng(1).normal(0, noise_mv, len(t))
    units = {"dt": dt, "t_unit": "ms", "v_unit": "mV", "i_unit": "nA", "id": "chirp"}
    return Recording("SineSpec", {"ton": 250, "toff": 10_250}, {"voltage": voltage, "current": current, **units})


def test_impedance_of_a_passive_membrane_is_what_theory_says():
    frequency, magnitude, smoothed = plots.impedance(chirp_of(120.0, 20.0))
    assert frequency[0] < 1 and 30 < frequency[-1] < 60
    inside = (frequency > 2) & (frequency < 28)
    theory = 120.0 / np.sqrt(1 + (2 * np.pi * frequency * 0.020) ** 2)
    assert smoothed[inside] == pytest.approx(theory[inside], rel=0.03)
    assert magnitude[inside] == pytest.approx(theory[inside], rel=0.15)


def test_impedance_has_a_file_for_each_chirp(tmp_path):
    chirp = chirp_of(120.0, 20.0)
    axes = plots.draw_impedance(chirp).axes[0]
    assert axes.get_xlabel() == "frequency (Hz)" and axes.get_ylabel() == "|Z| (MOhm)"
    cell = SimpleNamespace(name="c", rheobase=None, recordings=[*cell_of(1).recordings, chirp, chirp])
    plots.plot_cell_impedance(cell, tmp_path)
    assert names_below(tmp_path) == {f"c/impedance/c_SineSpec_{i}_chirp_impedance.pdf" for i in (0, 1)}

"""The figures are well-formed SVG that says what it shows, in words and in geometry."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import plot
from bench.measure import Round
from bench.report import QUESTIONS, Results

SVG = "{http://www.w3.org/2000/svg}"
NOTHING = plot.Panel("nothing", {"a": plot.Spread(0, 0, 0)})
TUNNELS = {"m13": (4e9, 5e9, 6e9), "openvpn": (1e9, 2e9), "nebula <&>": (3e9,), "raw veth": (9e9,)}


@pytest.fixture(scope="module", autouse=True)
def _fonts_are_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    """matplotlib keeps a descriptor of each font file for the next figure: no leak of ours."""
    plot.bars(tmp_path_factory.mktemp("fonts") / "bars.svg", "title", [NOTHING])


def document() -> dict[str, object]:
    tunnels = {
        name: [Round(dict.fromkeys(QUESTIONS, value), {}, {}, {}, {}, {}) for value in values]
        for name, values in TUNNELS.items()
    }
    return Results({}, {}, {"openvpn", "nebula <&>"}, tunnels).document()


def texts(path: Path) -> list[str]:
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    return ["".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")]


def bar_widths(path: Path, colour: str) -> list[float]:
    """Of the filled rectangles of a colour, in the file's units."""
    widths = []
    for shape in ElementTree.parse(path).getroot().iter(f"{SVG}path"):
        if f"fill: {colour.lower()}" in shape.get("style", ""):
            numbers = [float(word) for word in shape.get("d", "").split() if word not in "MLz"]
            widths.append(max(numbers[::2]) - min(numbers[::2]))
    return widths


def test_the_command_writes_a_figure_a_kind_with_every_tunnel_in_it(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(document()))
    argv = [sys.executable, "-m", "bench.plot", tmp_path / "results.json", tmp_path / "new/folder"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    written = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in written] == ["tcp.svg", "udp.svg", "ping.svg"]
    for path in written:
        said = " ".join(texts(path))
        assert [name for name in TUNNELS if name not in said] == []
        questions = [about.text for key, about in QUESTIONS.items() if key.startswith(path.stem)]
        assert questions
        assert [text for text in questions if text not in said] == []


def test_a_bar_is_as_long_as_the_median(tmp_path: Path) -> None:
    panel = plot.Panel(
        "Gbit/s",
        {"m13": plot.Spread(6, 5, 7), "a": plot.Spread(3, 2, 4), "b": plot.Spread(1.5, 1.5, 1.5)},
    )
    plot.bars(tmp_path / "bars.svg", "bars", [panel])
    ours = bar_widths(tmp_path / "bars.svg", plot.COLOURS[0])
    others = bar_widths(tmp_path / "bars.svg", plot.OTHERS)
    assert len(ours) == 1
    assert [ours[0] / width for width in others] == pytest.approx([2, 4])


def test_the_document_s_medians_are_drawn(tmp_path: Path) -> None:
    tcp = plot.comparison(document(), tmp_path)[0]
    # two panels, and in each m13's median 5, openvpn's 1.5, nebula's 3; the bed itself is in words
    ours, others = bar_widths(tcp, plot.COLOURS[0]), bar_widths(tcp, plot.OTHERS)
    assert [width / ours[0] for width in others] == pytest.approx([0.3, 0.6, 0.3, 0.6], abs=1e-3)
    assert "without a tunnel, raw veth: 9.00" in texts(tcp)


def test_a_tunnel_that_failed_says_so(tmp_path: Path) -> None:
    panels = [plot.Panel("one", {"a": plot.Spread(1, 1, 1)}), plot.Panel("two", {})]
    plot.bars(tmp_path / "bars.svg", "bars", panels)
    assert texts(tmp_path / "bars.svg").count("no result") == 1


def test_series_have_a_line_a_name_and_no_more_than_can_be_told_apart(tmp_path: Path) -> None:
    lines = {f"line {number}": [(1, number), (64, 2 * number)] for number in range(1, 6)}
    plot.series(tmp_path / "s.svg", "cost", "peers", "ns a packet", lines, is_log_x=True)
    said = texts(tmp_path / "s.svg")
    assert {*lines, "peers", "ns a packet", "1", "64"} <= set(said)
    drawn = (tmp_path / "s.svg").read_text()
    assert all(f"stroke: {colour.lower()}" in drawn for colour in plot.COLOURS)
    with pytest.raises(ValueError, match="6 lines"):
        plot.series(tmp_path / "s.svg", "", "", "", {**lines, "one more": [(1, 1)]})


def test_figures_are_readable_on_a_dark_page_and_by_ear(tmp_path: Path) -> None:
    plot.series(tmp_path / "s.svg", "a & b", "x", "y", {"line": [(1, 1), (2, 2)]})
    root = ElementTree.parse(tmp_path / "s.svg").getroot()
    assert root.get("role") == "img"
    assert root.findtext(f"{SVG}title") == "a & b"
    assert "prefers-color-scheme: dark" in (root.findtext(f"{SVG}style") or "")
    inks = {text.get("style", "").rpartition("fill: ")[2] for text in root.iter(f"{SVG}text")}
    assert inks == {plot.INK.lower()}  # the one colour that the dark page's rule replaces


def test_the_same_figures_give_the_same_file(tmp_path: Path) -> None:
    first, second = (plot.comparison(document(), tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_another_kind_of_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    argv = [sys.executable, "-m", "bench.plot", tmp_path / "other.json", tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1

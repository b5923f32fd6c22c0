"""The report in a real browser: it draws, the slider moves it, play plays, nothing is fetched."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from browser import PATIENCE, Browser, find_chromium

from xpnet.cli import main
from xpnet.runs.report import write_report

RUNS = {  # long enough to have a story, short enough for a test
    "and": ["--epochs", "3000"],
    "spiral": ["--epochs", "12"],
    "curve": ["--epochs", "200"],
    "surface": ["--epochs", "60"],
    "digits": ["--epochs", "4"],
}
VIEWS = {"light": {}, "dark": {"dark": True}, "phone": {"width": 390, "height": 844, "phone": True}}


pytestmark = pytest.mark.thorough  # a browser draws the pictures of six trainings


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of each run, made once."""
    where = tmp_path_factory.mktemp("runs")
    for problem, options in RUNS.items():
        common = ["--backend", "numpy", "--quiet", "--out", str(where / problem)]
        assert main(["train", problem, *options, *common]) == 0
    return where


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome on the PATH, nor in the variable CHROMIUM")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def report(runs, browser):
    """Open the report of a problem; in the end the page has complained of nothing."""

    def open(problem, **view):
        path = runs / problem / "report.html"
        browser.open(path, **view)
        return path

    yield open
    assert browser.complaints() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())


def log_of(runs, problem):
    lines = (runs / problem / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def drawn(browser, canvas):
    """Return what is on a canvas, as text that can be compared."""
    return browser.run(f"document.querySelectorAll('main canvas')[{canvas}].toDataURL()")


def place(browser, value):
    """Move the slider as a person does who drags it."""
    browser.run(
        f"slider.value = {value}; slider.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )


def readout(browser):
    return browser.run("document.getElementById('readout').textContent")


# ---- it draws ---------------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("problem", RUNS)
def test_every_picture_is_drawn_and_fits(report, browser, problem, view):
    path = report(problem, **VIEWS[view])
    assert browser.requests() == [path.resolve().as_uri()]
    width = VIEWS[view].get("width", 1200)
    assert browser.run("document.documentElement.scrollWidth") <= width
    # Each canvas has more than one colour, and a name for those who do not see it.
    blank = browser.run(
        """[...document.querySelectorAll('canvas')].filter(c => {
             const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height)
               .data.buffer);
             return new Set(d).size < 3 || !c.getAttribute('aria-label');
           }).map(c => c.getAttribute('aria-label'))"""
    )
    assert blank == []
    assert browser.run("document.querySelectorAll('main canvas').length") >= 6
    beyond = browser.run(
        "[...document.querySelectorAll('body *')]"
        f".filter(e => e.getBoundingClientRect().right > {width} + 1).length"
    )
    assert beyond == 0


def test_the_page_is_light_or_dark_as_the_reader_likes(report, browser):
    report("and", dark=False)
    light, colour = drawn(browser, 0), "getComputedStyle(document.body).backgroundColor"
    page = browser.run(colour)
    browser.colours(dark=True)
    browser.frame()
    assert browser.run(colour) != page
    assert drawn(browser, 0) != light  # drawn again, in the other colours


def test_the_boundary_is_the_right_way_up(report, browser):
    """AND is true in the upper right corner alone: orange there, blue in the three others."""
    report("and")
    # A bit inside the corners of the field, beside the axes and away from the points.
    corners = browser.run(
        """(c => { const [left, right, top, bottom] = [58, c.width - 20, 16, c.height - 46];
             const places = {"00": [left, bottom], "10": [right, bottom],
                             "01": [left, top], "11": [right, top]};
             const all = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
             const at = ([x, y]) => Array.from(all.slice(4 * (y * c.width + x)).slice(0, 4));
             return Object.fromEntries(Object.entries(places).map(([k, v]) => [k, at(v)]));
           })(document.querySelector("main canvas"))"""
    )
    orange = {name for name, (red, _, blue, _) in corners.items() if red > blue}
    assert orange == {"11"}


def test_a_report_without_data_says_why(runs, browser, tmp_path):
    """Of a training whose data have gone the curves can be shown."""
    folder = tmp_path / "moved"
    folder.mkdir()
    config = json.loads((runs / "digits" / "config.json").read_text())
    for name in ("log.jsonl", "results.json", "environment.json"):
        (folder / name).write_bytes((runs / "digits" / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"samples": [1, 2]}))
    browser.open(write_report(folder))
    assert "the data are not those of the training" in browser.run("document.body.innerText")
    assert browser.run("document.querySelectorAll('main canvas').length") == 2  # loss, accuracy
    assert browser.run("getComputedStyle(document.getElementById('player')).display") == "none"
    assert browser.complaints() == []


# ---- the slider -------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", RUNS)
def test_the_slider_moves_every_picture_that_has_a_history(report, browser, problem):
    report(problem)
    labels = browser.run(
        "[...document.querySelectorAll('main canvas')].map(c => c.getAttribute('aria-label'))"
    )
    still = ("truth", "taken for") + (() if problem == "and" else ("the network",))
    end = browser.run("+slider.max")
    for k, label in enumerate(labels):
        place(browser, end)
        last = drawn(browser, k)
        place(browser, 0)
        moves = drawn(browser, k) != last
        assert moves == (not label.startswith(still) and "taken for" not in label), label
        place(browser, end)
        assert drawn(browser, k) == last, label


@pytest.mark.parametrize("problem", RUNS)
def test_the_words_beside_the_slider_are_the_log(report, browser, runs, problem):
    report(problem)
    log, frames = log_of(runs, problem), browser.run("data.frames")
    assert frames[0] == 0
    assert frames[-1] == len(log)
    for k in sorted({0, 1, len(frames) // 2, len(frames) - 1}):
        place(browser, k)
        words, done = readout(browser), int(frames[k])
        assert float(re.match(r"epoch ([\d.e+-]+)", words)[1]) == pytest.approx(frames[k], abs=6e-3)
        found = {
            name: float(value)
            for name, value in re.findall(r"· (validation \w+|loss) ([-\d.e+]+)", words)
        }
        if not done:
            assert found == {}
            continue
        row = log[done - 1]
        assert found["loss"] == pytest.approx(row["loss"], rel=1e-3)
        assert found["validation loss"] == pytest.approx(row["val_loss"], rel=1e-3)


def test_keys_move_the_slider(report, browser):
    report("curve")
    browser.run("slider.focus()")
    end = browser.run("+slider.max")
    browser.key("Home")
    assert browser.run("position") == 0
    assert readout(browser) == "epoch 0, before the first step"
    browser.key("ArrowRight")
    assert browser.run("position") == 1
    browser.key("End")
    assert browser.run("position") == end
    assert browser.run("slider.getAttribute('aria-valuetext')") == readout(browser)


def test_between_two_moments_the_picture_is_between_them(report, browser):
    report("curve")
    a, middle, b = browser.run(
        """[3, 3.5, 4].map(p => { show(p); return Array.from(blended(unpack(data.view.fit))) })"""
    )
    assert middle == pytest.approx(np.mean([a, b], axis=0), rel=1e-5, abs=1e-6)
    assert a != b


# ---- play -------------------------------------------------------------------------------------


def wait_for(browser, program):
    deadline = time.monotonic() + PATIENCE
    while not browser.run(program):
        assert time.monotonic() < deadline, program
        browser.frame()


@pytest.mark.parametrize("problem", ["and", "surface", "digits"])
def test_play_plays_and_pause_stops(report, browser, problem):
    report(problem)
    before = drawn(browser, 0)
    browser.click("#play")
    wait_for(browser, "position > 0 && position < last / 2")  # it has begun anew
    assert browser.run("play.getAttribute('aria-label')") == "pause"
    somewhere = browser.run("position")
    wait_for(browser, f"position > {somewhere}")
    assert browser.run("+slider.value === Math.floor(position)")
    assert drawn(browser, 0) != before
    browser.click("#play")
    stopped = browser.run("position")
    browser.frame()
    browser.frame()
    assert browser.run("position") == stopped < browser.run("last")
    assert browser.run("play.getAttribute('aria-label')") == "play"
    browser.click("#play")  # goes on from there
    wait_for(browser, f"position > {stopped}")
    place(browser, 1)  # who takes hold of the slider ends it
    browser.frame()
    assert browser.run("[position, playing]") == [1, 0]


def test_play_ends_at_the_end(report, browser):
    report("and")
    place(browser, browser.run("last - 2"))
    browser.click("#play")
    wait_for(browser, "!playing")
    assert browser.run("position") == browser.run("last")


# ---- pointing ---------------------------------------------------------------------------------


def test_dragging_turns_both_surfaces_and_not_the_difference(report, browser):
    report("surface")
    before = [drawn(browser, k) for k in range(3)]
    x, y = browser.run(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])"
        "(document.querySelector('main canvas').getBoundingClientRect())"
    )
    for kind, more in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
        browser("Input.dispatchMouseEvent", type=kind, x=x + more, y=y, button="left", buttons=1)
    browser.frame()
    changed = [drawn(browser, k) != old for k, old in enumerate(before)]
    assert changed == [True, True, False]


@pytest.mark.parametrize(("problem", "part"), [("spiral", 0.5), ("digits", 0.98)])
def test_pointing_at_a_curve_tells_its_numbers(report, browser, runs, problem, part):
    report(problem)
    browser.run(
        """window.said = [];
           const write = CanvasRenderingContext2D.prototype.fillText;
           CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
             said.push(String(text));
             return write.call(this, text, ...rest);
           };
           document.querySelector("canvas[aria-label^='loss']").scrollIntoView({block: 'center'})"""
    )
    left, top, width, height = browser.run(
        "(r => [r.x, r.y, r.width, r.height])"
        """(document.querySelector("canvas[aria-label^='loss']").getBoundingClientRect())"""
    )
    browser(
        "Input.dispatchMouseEvent",
        type="mouseMoved",
        x=left + 52 + part * (width - 66),
        y=top + height / 2,
    )
    browser.frame()
    said = browser.run("said")
    (epoch,) = {int(text.split()[1]) for text in said if re.fullmatch(r"epoch \d+", text)}
    row = log_of(runs, problem)[epoch - 1]
    for name, key in (("training", "loss"), ("validation", "val_loss")):
        (value,) = {float(t.split()[1]) for t in said if re.fullmatch(rf"{name} [-\d.e+]+", t)}
        assert value == pytest.approx(row[key], rel=1e-3)


def number(text):
    """Read the label of a tick: 0.5, 2000 or 10⁻³."""
    small = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    power = re.fullmatch("10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", text)
    return 10.0 ** int(power[1].translate(small)) if power else float(text)


@pytest.mark.parametrize("problem", ["spiral", "digits"])
def test_the_lines_are_where_the_numbers_of_the_log_are(report, browser, runs, problem):
    """Read from the picture, with the help of its axes: upwards is more."""
    report(problem)
    paths, texts = browser.run(
        """(() => {
          const [paths, texts] = [[], []];
          const proto = CanvasRenderingContext2D.prototype;
          const { beginPath, moveTo, lineTo, fillText } = proto;
          proto.beginPath = function () { paths.push([]); beginPath.call(this); };
          for (const [name, draw] of [["moveTo", moveTo], ["lineTo", lineTo]])
            proto[name] = function (x, y) { paths.at(-1).push([x, y]); draw.call(this, x, y); };
          proto.fillText = function (text, x, y) {
            texts.push([String(text), x, y]);
            fillText.call(this, text, x, y);
          };
          document.querySelector("canvas[aria-label^='loss']").redraw();
          Object.assign(proto, { beginPath, moveTo, lineTo, fillText });
          return [paths, texts];
        })()"""
    )
    log = log_of(runs, problem)
    training, validation = (np.array(path) for path in paths if len(path) == len(log))
    ticks = [(number(text), x, y) for text, x, y in texts if re.match(r"\d", text)]
    bottom = max(y for *_, y in ticks)
    scale = {
        "y": np.array([(np.log10(v), y) for v, x, y in ticks if y < bottom]),
        "x": np.array([(v, x) for v, x, y in ticks if y == bottom]),
    }
    values, places = scale["y"].T
    assert (np.diff(places[np.argsort(values)]) < 0).all()  # a canvas counts from the top
    read = {axis: np.polyfit(s[:, 1], s[:, 0], 1) for axis, s in scale.items()}
    for line, name in ((training, "loss"), (validation, "val_loss")):
        epochs = np.polyval(read["x"], line[:, 0])
        assert epochs == pytest.approx([row["epoch"] for row in log], abs=0.02)
        losses = 10 ** np.polyval(read["y"], line[:, 1])
        assert losses == pytest.approx([row[name] for row in log], rel=1e-3)


def test_the_border_goes_through_the_zeros(report, browser):
    """Of x² + y² - 1 on [-2, 2]² it is the unit circle, and of what has one sign there is none."""
    report("and")
    circle, nothing = browser.run(
        """(() => {
          const side = 41;
          const at = Array.from({ length: side }, (_, k) => -2 + (4 * k) / (side - 1));
          const field = at.flatMap((y) => at.map((x) => x * x + y * y - 1));
          return [zeros(field, side), zeros(field.map((v) => v + 2), side)];
        })()"""
    )
    assert nothing == []
    places = -2 + 4 * np.array(circle) / 40  # pieces, their two ends, x and y
    assert np.hypot(*places.reshape(-1, 2).T) == pytest.approx(np.ones(2 * len(circle)), abs=0.01)
    lengths = np.hypot(*(places[:, 0] - places[:, 1]).T)
    assert lengths.sum() == pytest.approx(2 * np.pi, rel=0.01)

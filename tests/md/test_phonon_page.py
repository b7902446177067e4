"""The page of animated phonons, in a real browser: it draws, it answers, it moves as the physics says."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time

import numpy as np
import pytest

from mlip.md.phonon_page import page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser:
    """Chromium without a window, spoken to over a pipe in the DevTools protocol."""

    def __init__(self, command, profile, size):
        down, self._to = os.pipe()
        self._from, up = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-extensions --hide-scrollbars"
        shell = f'exec "$0" {flags} --remote-debugging-pipe --user-data-dir="$1" about:blank 3<&{down} 4>&{up}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, command, str(profile)],
            pass_fds=(down, up),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down)
        os.close(up)
        self._rest, self._number, self._session, self.events = b"", 0, None, []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(*size)

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self):
        while b"\0" not in self._rest:
            more = os.read(self._from, 1 << 20)
            assert more, "the browser has gone"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, path):
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && window.phononPage !== undefined")

    def wait(self, condition, seconds=20):
        limit = time.monotonic() + seconds
        while not self.do(condition):
            assert time.monotonic() < limit, f"never true: {condition}"
            time.sleep(0.05)

    def do(self, code):
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def mouse(self, kind, x, y, **more):
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, name):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name)

    def resize(self, width, height):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def complaints(self):
        """Errors, warnings and exceptions since the page was opened, and whatever it asked the network for."""
        found = [e for e in self.events if e["method"] in {"Runtime.exceptionThrown", "Log.entryAdded"}]
        found += [e for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return found, [url for url in asked if not url.startswith(("file:", "data:"))]

    def close(self):
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._to)
        os.close(self._from)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    command = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if command is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    opened = Browser(command, tmp_path_factory.mktemp("profile"), (1200, 900))
    yield opened
    opened.close()


@pytest.fixture
def opened(browser, silicon_phonons, tmp_path):
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    browser.open(silicon_phonons.to_page(tmp_path / "phonons.html"))
    browser.wait("document.querySelectorAll('#bands .band').length > 0")
    return browser


PIXELS = "(() => { const c = document.getElementById('crystal'); return c.toDataURL(); })()"
INK = """(() => { const c = document.getElementById('crystal');
  const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (c.width * c.height); })()"""
LABEL = "document.getElementById('mode').textContent"


def place_of(browser, index, branch):
    """Where a point of a branch stands in the window."""
    return browser.do(f"""(() => {{ const box = document.getElementById('bands').getBoundingClientRect();
      return [box.left + scaleX(data.x[{index}]), box.top + scaleY(data.frequencies[{index}][{branch}])]; }})()""")


def test_the_page_draws_and_moves_without_a_complaint(opened):
    opened.wait(f"{INK} > 0.02")
    first = opened.do(PIXELS)
    opened.wait(f"{PIXELS} !== {json.dumps(first)}")
    found, asked = opened.complaints()
    assert found == []
    assert asked == []


def test_a_click_on_a_branch_chooses_that_mode(opened, silicon_phonons):
    before = opened.do(LABEL)
    index = silicon_phonons.bands.path.segments[0][1] - 1  # X
    place = place_of(opened, index, 5)
    opened.click(*place)
    assert opened.do(LABEL) != before
    frequency = silicon_phonons.bands.frequencies[index, 5]
    assert f"X, branch 5: {frequency:.3f} THz" in opened.do(LABEL)
    opened.click(*place)  # the other one of the two degenerate modes
    assert f"X, branch 6: {frequency:.3f} THz" in opened.do(LABEL)


def test_the_pointer_reads_q_and_frequency(opened, silicon_phonons):
    opened.mouse("mouseMoved", *place_of(opened, 3, 2))
    text = opened.do("document.getElementById('readout').textContent")
    assert "branch 3" in text
    read = float(re.search(r"([\d.]+) THz", text)[1])
    assert read == pytest.approx(silicon_phonons.bands.frequencies[3, 2], abs=6e-4)
    assert f"{silicon_phonons.bands.path.q[3, 0]:.3f}" in text


def test_keys_choose_modes_and_turn_the_crystal(opened):
    opened.do("document.getElementById('bands').focus()")
    before = opened.do("[phononPage.state.kept, phononPage.state.branch]")
    opened.key("ArrowRight")
    opened.key("ArrowUp")
    assert opened.do("[phononPage.state.kept, phononPage.state.branch]") == [before[0] + 1, before[1] + 1]
    opened.do("document.getElementById('crystal').focus()")
    turn = opened.do("phononPage.state.turn")
    opened.key("ArrowLeft")
    assert opened.do("phononPage.state.turn") != turn


def test_dragging_turns_pausing_stops_and_amplitude_matters(opened):
    opened.do("document.getElementById('play').click()")
    box = opened.do(
        "(() => { const b = document.getElementById('crystal').getBoundingClientRect(); return [b.left, b.top]; })()"
    )
    turn, still = opened.do("phononPage.state.turn"), opened.do(PIXELS)
    time.sleep(0.2)
    assert opened.do(PIXELS) == still
    opened.mouse("mousePressed", box[0] + 100, box[1] + 100, button="left", clickCount=1)
    opened.mouse("mouseMoved", box[0] + 160, box[1] + 130, button="left", buttons=1)
    opened.mouse("mouseReleased", box[0] + 160, box[1] + 130, button="left", clickCount=1)
    assert opened.do("phononPage.state.turn") != turn
    turned = np.array(opened.do("phononPage.state.turn"))
    assert turned @ turned.T == pytest.approx(np.eye(3), abs=1e-12)
    opened.wait(f"{PIXELS} !== {json.dumps(still)}")
    still = opened.do(PIXELS)
    opened.do(
        "(() => { const a = document.getElementById('amplitude');"
        " a.value = 1; a.dispatchEvent(new Event('input')); })()"
    )
    opened.wait(f"{PIXELS} !== {json.dumps(still)}")


@pytest.mark.parametrize("branch", [0, 2, 5])
def test_the_browser_moves_the_atoms_as_python_does(opened, silicon_phonons, branch):
    """Every atom that the page draws, the copies on the far faces too, at some phase."""
    modes, kept, phase = silicon_phonons.modes(), 7, 0.83
    opened.do(f"phononPage.select({kept}, {branch})")
    drawn = opened.do(
        f"phononPage.atoms().map(a => [a.kind, a.cell, a.rest, phononPage.displacement(a, {phase}, 0.3)])"
    )
    cells = np.array([cell for _, cell, _, _ in drawn])
    kinds = np.array([kind for kind, _, _, _ in drawn])
    wave = modes.displacements(kept, branch, cells, phase)[np.arange(len(cells)), kinds]
    scale = 0.3 / np.linalg.norm(modes.patterns[kept, branch], axis=-1).max()
    assert np.array([u for _, _, _, u in drawn]) == pytest.approx(scale * wave, abs=1e-4)
    atoms = silicon_phonons.cell.atoms
    positions = atoms.get_positions()[kinds] + cells @ atoms.cell.array
    assert np.array([rest for _, _, rest, _ in drawn]) == pytest.approx(positions, abs=1e-6)


@pytest.mark.parametrize("width", [360, 700, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_at_any_width_and_text_can_be_read(browser, silicon_phonons, tmp_path, width, scheme):
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.resize(width, 900)
    browser.open(silicon_phonons.to_page(tmp_path / "phonons.html"))
    assert browser.do("document.documentElement.scrollWidth") <= width
    ink, paper = browser.do(
        "(() => [getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor])()"
    )
    assert contrast(ink, paper) > 7
    browser.resize(1200, 900)


def contrast(*colours):
    """The ratio of relative luminances that WCAG defines."""
    channels = np.array([[float(x) for x in re.findall(r"[\d.]+", colour)[:3]] for colour in colours]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


def test_who_asked_for_less_motion_gets_a_still_picture(browser, silicon_phonons, tmp_path):
    browser.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    browser.open(silicon_phonons.to_page(tmp_path / "phonons.html"))
    assert browser.do("phononPage.state.playing") is False
    browser.send("Emulation.setEmulatedMedia", features=[])


def test_names_are_escaped(browser, silicon_phonons, tmp_path):
    """A reference's name comes from a file name, and a file name may hold anything."""
    evil = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>.yaml"
    compared = silicon_phonons.compared_with(_as_reference(silicon_phonons, evil))
    text = page(compared, silicon_phonons.modes())
    assert evil not in text
    (tmp_path / "phonons.html").write_text(text)
    browser.open(tmp_path / "phonons.html")
    assert browser.do("window.hacked === undefined")
    assert evil in browser.do("document.getElementById('legend').textContent")
    assert browser.complaints() == ([], [])


def _as_reference(result, name):
    from mlip.md.reference import Reference

    return Reference(name, result.cell, result.cell.atoms.cell.array, solve=lambda q: result.frequencies(q) * 1.01)


# -- without a browser ------------------------------------------------------------------------------------


def test_the_page_stands_alone(silicon_phonons):
    text = page(silicon_phonons, silicon_phonons.modes())
    assert re.findall(r"(?:src|href)\s*=|url\(|@import|import\s*\(|fetch\(|XMLHttpRequest", text) == []
    assert "default-src 'none'" in text
    assert len(text) < 200_000
    assert "{{" not in text


def test_packed_patterns_come_back(silicon_phonons):
    modes = silicon_phonons.modes()
    text = page(silicon_phonons, modes)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    whole = np.frombuffer(base64.b64decode(data["modes"]["patterns"]), "<i2").reshape(*modes.patterns.shape, 2)
    back = whole * data["modes"]["scale"]
    assert back[..., 0] + 1j * back[..., 1] == pytest.approx(modes.patterns, abs=data["modes"]["scale"])

"""The report in a real browser: what a person sees, and what a person does."""

import html
import json
import re

import browser
import pytest
import report_fakes

from imageherd.report import page, write_report

COLOURS = report_fakes.COLOURS[:3]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "index.html"
    data = report_fakes.fake_report(
        300, 3, nowhere=4, unreadable=2, paths=report_fakes.HOSTILE, title="<b>hostile</b>"
    )
    return write_report(data, path)


def do(report, tmp_path, script, **how):
    """Run a script in the report, its policy lifted for it; return what it returns."""
    text = report.read_text(encoding="utf-8", errors="strict")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    driver = f"""<script>setTimeout(async () => {{
      const tick = (ms = 60) => new Promise((done) => setTimeout(done, ms));
      const $ = (selector) => document.querySelector(selector);
      const key = (key, target = document.activeElement) => target.dispatchEvent(
        new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
      const answer = await (async () => {{ {script} }})();
      document.documentElement.dataset.answer = JSON.stringify(answer);
    }}, 300)</script></body>"""
    driven = tmp_path / "driven.html"
    driven.write_text(text.replace("</body>", driver), encoding="utf-8")
    dom, console = browser.dom_of(driven, **how)
    assert console == []
    return json.loads(html.unescape(browser.attribute(dom, "data-answer")))


def test_a_person_sees_cards_photographs_and_the_map(report):
    look = browser.look_at(report)
    browser.check_page(look, n_cards=4, colours=COLOURS, points=300)
    assert look.pixels[5, 5].min() > 230
    assert "Fits nowhere" in look.dom


def test_the_dark_theme_is_dark(report):
    wide = browser.pixels_of(report, "#dark", (1400, 900))
    assert wide[5, 5].max() < 40
    assert all(browser.share_near(wide, colour) > 0.01 for colour in COLOURS)


def test_nothing_is_wider_than_a_narrow_window(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """$("details.settings").open = true; $("#unreadable details").open = true; await tick();
        const wide = document.documentElement.scrollWidth - innerWidth;
        document.querySelectorAll(".open")[1].click(); await tick();
        return { wide, dialog: $(".dialog-body").scrollWidth - $(".dialog-body").clientWidth };""",
        size=(500, 900),
    )
    assert answer == {"wide": 0, "dialog": 0}


@pytest.mark.parametrize(
    ("asset", "old", "new"),
    [
        ("cards.js", "const cards", "throw new Error('broken'); const cards"),
        ("report.js", "JSON.parse", "JSON.prase"),
        ("members.js", "const CHUNK = 400;", "const CHUNK = ;"),
        ("map.js", "if (report.map)", "if (false)"),
        ("report.js", "data:image/jpeg;base64,", "data:image/jpeg;base64,AAAA"),
        ("report.css", ".card {", ".card { display: none;"),
    ],
)
def test_the_check_fails_on_a_broken_page(tmp_path, monkeypatch, asset, old, new):
    whole = page._asset

    def broken(name):
        text = whole(name)
        assert name != asset or old in text
        return text.replace(old, new) if name == asset else text

    monkeypatch.setattr(page, "_asset", broken)
    look = browser.look_at(write_report(report_fakes.fake_report(60, 3), tmp_path / "broken.html"))
    with pytest.raises(AssertionError):
        browser.check_page(look, n_cards=3, colours=COLOURS, points=60)


def test_a_script_that_is_not_the_reports_own_does_not_run(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    slipped_in = "<script>document.documentElement.dataset.harmed = 1</script></body>"
    other = tmp_path / "other.html"
    other.write_text(text.replace("</body>", slipped_in), encoding="utf-8")
    dom, console = browser.dom_of(other)
    assert browser.attribute(dom, "data-harmed") is None
    assert "Content Security Policy" in console[0]


def test_hostile_names_are_shown_as_text(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """const shown = [];
        for (const open of document.querySelectorAll(".open")) {
          open.click(); await tick();
          shown.push(...[...document.querySelectorAll("dialog [title]")].map((e) => e.title));
          $("dialog").close(); await tick();
        }
        const harmed = document.documentElement.dataset.harmed ?? null;
        return { shown, title: $("h1").textContent, harmed };""",
    )
    assert answer["harmed"] is None
    assert answer["title"] == "<b>hostile</b>"
    shown = set(answer["shown"])
    for path in report_fakes.HOSTILE[:10]:
        assert path.encode("utf-8", "backslashreplace").decode() in shown


def test_members_open_with_all_their_paths_and_close_with_the_focus_where_it_was(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """const open = document.querySelectorAll(".open")[1];
        open.focus(); open.click(); await tick();
        const pictures = document.querySelectorAll(".wall figure").length;
        const title = $("#members-title").textContent;
        key("ArrowRight"); await tick();
        const next = $("#members-title").textContent;
        $("dialog").close(); await tick();
        return { pictures, title, next, back: document.activeElement === open };""",
    )
    assert answer == {"pictures": 99, "title": "name 1", "next": "name 2", "back": True}


def test_filter_sort_and_keys(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """const visible = () => [...document.querySelectorAll(".card:not([hidden]) .open")];
        const names = () => visible().map((e) => e.textContent);
        const set = (id, value, event) => {
          $(id).value = value;
          $(id).dispatchEvent(new Event(event));
        };
        key("/", document.body);
        const focused = document.activeElement.id;
        set("#filter", "NAME 2", "input"); const filtered = names();
        key("Escape"); const all = names();
        const sort = (by) => { set("#sort", by, "change"); return names(); };
        const sure = sort("confidence"), doubt = sort("doubt");
        sort("found");
        $(".open").focus(); key("ArrowRight");
        const right = document.activeElement.textContent;
        key("End"); const end = document.activeElement.textContent;
        $("#theme").click(); const one = document.documentElement.dataset.theme;
        $("#theme").click(); const two = document.documentElement.dataset.theme;
        const kept = localStorage.getItem("imageherd-theme") === two;
        const themes = [one, two].sort();
        return { focused, filtered, all, sure, doubt, right, end, themes, kept };""",
    )
    lost = "Fits nowhere"
    assert answer["focused"] == "filter"
    assert answer["filtered"] == ["name 2"]
    assert answer["all"] == ["name 0", "name 1", "name 2", lost]
    assert answer["sure"] == [*answer["doubt"][2::-1], lost]
    assert answer["right"] == "name 1"
    assert answer["end"] == lost
    assert answer["themes"] == ["dark", "light"]
    assert answer["kept"]


def test_pointing_at_the_map_shows_a_picture_and_a_path(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """$("#map").scrollIntoView(); await tick();
        const box = $("canvas").getBoundingClientRect();
        const at = (x, y, type) => $("canvas").dispatchEvent(new PointerEvent(type, {
          clientX: box.left + x, clientY: box.top + y, pointerType: "mouse", pointerId: 1 }));
        for (let x = 4; x < box.width; x += 6) for (let y = 4; y < box.height; y += 6) {
          at(x, y, "pointermove");
          if (!$("#tip").hidden) {
            const [path, name] = [$(".tip-path").textContent, $(".tip-name").textContent];
            const picture = Boolean($("#tip img"));
            $("#legend button").click();
            return { path, name, picture, pressed: $("#legend button").ariaPressed };
          }
        }
        return null;""",
    )
    assert answer["path"].endswith(".jpg")
    assert answer["name"].startswith(("name", "Fits"))
    assert answer["picture"]
    assert answer["pressed"] == "true"


def test_a_long_list_of_paths_is_written_bit_by_bit(tmp_path):
    data = report_fakes.fake_report(20_000, 1, thumbnail=lambda i, px: None, map_=False)
    answer = do(
        write_report(data, tmp_path / "long.html"),
        tmp_path,
        """$(".open").click(); await tick(200);
        const lines = () => document.querySelectorAll("dialog li").length;
        const first = lines();
        $("dialog .end button").click();
        return { first, later: lines(), summary: $("dialog summary").textContent };""",
    )
    assert 0 < answer["first"] <= 1_200 < 20_000
    assert answer["first"] < answer["later"] < 20_000
    assert answer["summary"].startswith("20,000 paths")


@pytest.mark.parametrize(
    "settings",
    [
        {"n": 1, "n_clusters": 1, "names": False},
        {"n": 5, "n_clusters": 1, "map_": False},
        {"n": 3, "n_clusters": 3, "thumbnail": lambda i, px: None},
        {"n": 2_000, "n_clusters": 1_000, "names": False},
    ],
    ids=["one image", "no map", "no pictures", "a thousand clusters"],
)
def test_odd_reports_open_without_an_error(tmp_path, settings):
    path = write_report(report_fakes.fake_report(**settings), tmp_path / "odd.html")
    dom, console = browser.dom_of(path)
    assert console == []
    assert browser.attribute(dom, "data-ready") == "true"
    assert dom.count('<article class="card"') == settings["n_clusters"]

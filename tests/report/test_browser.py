"""The report in a real browser: what a person sees, and what a person does."""

import html
import json
import re

import numpy as np
import pytest
import report_fakes

import browser
from imageherd.report import page, write_report
from imageherd.report.data import Curve

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
      const all = (selector) => [...document.querySelectorAll(selector)];
      const texts = (selector) => all(selector).map((element) => element.textContent);
      const set = async (selector, value, ...events) => {{
        $(selector).value = value;
        for (const event of events) {{ $(selector).dispatchEvent(new Event(event)); await tick(); }}
      }};
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


@pytest.mark.parametrize("kind", ["report", "told"])
def test_nothing_is_wider_than_a_narrow_window(kind, request, tmp_path):
    answer = do(
        request.getfixturevalue(kind),
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
        key("/", document.body);
        const focused = document.activeElement.id;
        await set("#filter", "NAME 2", "input"); const filtered = names();
        key("Escape"); const all = names();
        const sort = async (by) => { await set("#sort", by, "change"); return names(); };
        const sure = await sort("confidence"), doubt = await sort("doubt");
        await sort("found");
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


TOLD = {
    "why": ["4 clusters, counted by the rule splits.", "Chosen without labels: tsp."],
    "curve": Curve(4, [2, 3, 4, 5, 6], [2.0, 1.0, 0.5, -1.0, -2.0], [5, 3], "splits"),
    "joins": [(0, 2), (1, 3), (2, 1)],
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Four clusters that know all that a clustering of today knows."""
    data = report_fakes.fake_report(97, 4, nowhere=5, **TOLD)
    for cluster in data.clusters:
        cluster.winner, cluster.runner_up_share, cluster.lift, cluster.voters = "name", 0.2, 2.5, 7
        cluster.evidence = cluster.members[-4:]
        cluster.reasons = dict.fromkeys(cluster.doubtful, "between <i>one</i> and another")
    data.clusters[3].winner = "what was voted"
    data.clusters[2].runner_up = "something rare"
    data.copy_of, data.same = np.full(97, -1), np.zeros(97, dtype=bool)
    data.copy_of[[8, 12]], data.same[8] = 4, True
    return write_report(data, tmp_path_factory.mktemp("told") / "index.html")


def test_the_slider_makes_cards_one_and_parts_them_again(told, tmp_path):
    answer = do(
        told,
        tmp_path,
        """const look = () => ({
          names: texts(".card .open"), legend: texts("#legend bdi"),
          sizes: texts(".card .about > .size").map((text) => parseInt(text)),
          now: $("#grain-now").textContent, hash: location.hash });
        const slide = async (n) => { await set("#grain", n, "input", "change"); return look(); };
        const range = [$("#grain").min, $("#grain").max, $("#grain").checkVisibility()];
        const opened = look(), three = await slide(3), two = await slide(2);
        const strips = [...$(".card").querySelectorAll("h4")].map((e) => e.textContent);
        location.hash = "#map"; await tick(200);
        const jumped = location.hash;
        $(".open").click(); await tick();
        const parts = texts("dialog h3.part bdi");
        const figures = all("dialog .wall figure").length;
        $("dialog").close(); await tick();
        const four = await slide(4);
        return { range, opened, three, two, jumped, strips, parts, figures, four };""",
        fragment="#dark&n=3",
    )
    assert answer["range"] == ["2", "4", True]
    assert answer["opened"] == answer["three"]
    three, two, four = answer["three"], answer["two"], answer["four"]
    assert three["names"] == ["name 0 and 1 more", "name 1", "name 3", "Fits nowhere"]
    assert two["names"] == ["name 0 and 1 more", "name 1 and 1 more", "Fits nowhere"]
    assert four["names"] == ["name 0", "name 1", "name 2", "name 3", "Fits nowhere"]
    assert [sum(look["sizes"]) for look in (two, three, four)] == [97] * 3
    assert three["sizes"] == [46, 23, 23, 5]
    assert all(look["legend"] == look["names"] for look in (two, three, four))
    assert [look["now"] for look in (two, three, four)] == ["2 of 4", "3 of 4", "4"]
    assert [look["hash"] for look in (two, three, four)] == ["#dark&n=2", "#dark&n=3", "#map"]
    assert answer["jumped"] == "#map&n=2"
    assert answer["strips"] == ["name 0, 23", "name 2, 23"]
    assert answer["parts"] == ["name 0", "name 2"]
    assert answer["figures"] == 46


def test_a_report_tells_why_and_shows_its_evidence(told, tmp_path):
    answer = do(
        told,
        tmp_path,
        """const said = texts("#why p"), reason = $(".card .reason").textContent;
        const chosen = texts("#curve circle.chosen"), next = texts("#curve circle.next");
        const points = $("#curve polyline").getAttribute("points").split(" ").length;
        const inside = async (i) => {
          all(".open")[i].click(); await tick();
          const wall = "dialog .told ~ .wall";
          const found = {
            heading: $("dialog .evidence h3").textContent,
            said: $("dialog .evidence p").textContent,
            evidence: all("dialog .evidence img").length, doubts: all("dialog .doubts img").length,
            reasons: texts("dialog .doubts figcaption span"), stacks: all(`${wall} .stack`).length,
            marks: texts(`${wall} figcaption span`).sort() };
          $("dialog").close(); await tick();
          return found;
        };
        const first = await inside(0), fourth = await inside(3);
        const filter = async (text) => {
          await set("#filter", text, "input");
          return [$("#shown").textContent, texts(".card:not([hidden]) .open")];
        };
        const rare = await filter("RARE"), none = await filter("no such");
        await set("#grain", 2, "change");
        const merged = await filter("rare");
        key("Enter", $("#filter"));
        const entered = document.activeElement.textContent;
        key("Escape", $("#filter"));
        const cleared = [$("#filter").value, $("#shown").textContent];
        const told = { said, reason, chosen, next, points, first, fourth };
        return { ...told, rare, none, merged, entered, cleared };""",
    )
    assert answer["said"] == TOLD["why"]
    assert answer["chosen"] == ["4 clusters: 0.5"]
    assert answer["next"] == ["3 clusters: 1", "5 clusters: −1"]
    assert answer["points"] == 5
    reason = "between <i>one</i> and another"
    assert answer["reason"] == reason
    first, fourth = answer["first"], answer["fourth"]
    assert first["heading"] == "Why this name"
    assert first["said"] == (
        "name got 60 % of the votes, 2.5 times as much as in the average cluster; next is other "
        "with 20 %. 7 images voted for it, these most clearly:"
    )
    assert first["evidence"] == 4
    assert first["doubts"] == 6
    assert first["reasons"] == [reason] * 6
    assert first["marks"] == [
        "copy of photo-000004.jpg",
        "has 2 near-copies",
        "near-copy of photo-000004.jpg",
    ]
    assert first["stacks"] == 1
    assert fourth["heading"] == "Named by hand; what the vote said"
    assert fourth["said"].startswith("what was voted got 60 %")
    assert answer["rare"] == ["1 of 5", ["name 2"]]
    assert answer["none"] == ["0 of 5", []]
    assert answer["merged"] == ["1 of 3", ["name 0 and 1 more"]]
    assert answer["entered"] == "name 0 and 1 more"
    assert answer["cleared"] == ["", ""]


def test_what_an_old_clustering_does_not_know_is_not_there(report, tmp_path):
    answer = do(
        report,
        tmp_path,
        """document.querySelector(".open").click(); await tick();
        const parts = ["#why", ".grain", ".told", ".reason", ".stack"];
        return parts.filter((part) => $(part)?.checkVisibility());""",
        fragment="#n=2",
    )
    assert answer == []

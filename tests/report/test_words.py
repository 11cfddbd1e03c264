"""A report of texts: words where pictures would be, in a real browser and within the budget."""

import json
import re

import report_fakes

import browser
from imageherd.report import payload, write_report

HOSTILE = "</script><img src=x onerror=alert(1)> & <b>bold</b>"


def texts_report(**changes):
    return report_fakes.fake_report(
        60,
        3,
        thumbnail=lambda i, px: None,
        text=lambda i: f"{HOSTILE} number {i}",
        noun="text",
        unreadable=1,
        **changes,
    )


def test_words_stand_in_for_pictures_and_are_never_markup(tmp_path):
    dom, console = browser.dom_of(write_report(texts_report(), tmp_path / "index.html"))
    assert console == []
    shown = re.findall(r'<span class="words".*?<bdi>(.*?)</bdi>', dom, re.DOTALL)
    # Three medoids and two strips of six for each of three cards.
    assert len(shown) == 3 * (3 + 6 + 6)
    assert all(text.startswith("&lt;/script&gt;&lt;img src=x") for text in shown)
    assert 'class="missing"' not in dom
    assert "20 texts" in dom
    assert "20 images" not in dom
    assert "1 unreadable text" in dom


def test_words_give_way_when_there_is_no_room_left():
    data = texts_report()
    room = len(payload.build(data, 10**6))
    whole = json.loads(payload.build(data, room))
    tight = payload.build(data, room - 2_000)
    assert len(tight) <= room - 2_000
    kept = json.loads(tight)["texts"]
    assert 0 < len(kept) < len(whole["texts"])
    # What is shown large is the last to go.
    assert {str(i) for c in whole["clusters"] for i in c["medoids"]} <= set(kept)


def test_a_picture_needs_no_words():
    data = report_fakes.fake_report(30, 2, text=lambda i: None if i % 2 else "no picture")
    data.thumbnail = lambda i, px: report_fakes.fake_photo((9, 9, 9), px) if i % 2 else None
    built = json.loads(payload.build(data, 10**7))
    odd = {i for i, path in enumerate(built["paths"]) if int(path[-8:-4]) % 2}
    assert {int(i) for i in built["thumbnails"]} == odd
    assert {int(i) for i in built["texts"]} == set(range(30)) - odd

"""The map: all points in their colours, found, highlighted and selected by mouse and by keys."""

import re

from selenium.webdriver import ActionChains, Keys

from imageherd.herd import Herd

DRAWN = "return document.querySelector('.map-over')?.dataset.drawn"
# How many pixels of the drawing have each colour, as "#rrggbb".
PIXELS = """const points = document.querySelector(".map-points");
const [width, height] = [points.width, points.height];
const flat = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
flat.drawImage(points, 0, 0);
const seen = {};
for (const pixel of new Uint32Array(flat.getImageData(0, 0, width, height).data.buffer)) {
  const [r, g, b] = [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
  const key = "#" + [r, g, b].map((part) => part.toString(16).padStart(2, "0")).join("");
  seen[key] = (seen[key] ?? 0) + 1;
}
return seen;"""
GROUPS = """return [...document.querySelectorAll(".map-groups button")].map((button) => [
  button.querySelector("bdi").textContent, Number(button.querySelector(".size").textContent)]);"""
CARDS = """const [name] = arguments;
return fetch(`/api/clusterings/${name}`).then((answer) => answer.json())
  .then(({ clusters }) => clusters.map((c) => [c.name, c.size, c.colour, c.uid]));"""


def drawn(page):
    """Wait until all points are drawn."""
    page.until(lambda: page.run(DRAWN) == "400", "400 points to be drawn")


def pixels(page, colour):
    """How many pixels have a colour, once all points are drawn."""
    drawn(page)
    return page.run(PIXELS).get(colour, 0)


def opened_map(page):
    """Go to the map; returns its clusters as (name, size, colour, uid)."""
    page.open("map")
    drawn(page)
    return page.run(CARDS, page.name)


def over(page):
    """What the mouse and the keys go to."""
    return page.driver.find_element("css selector", ".map-over[aria-label='Map of 400 images']")


def drag(page, places, held=None):
    """Drag through places, given from the middle of the map."""
    area, chain = over(page), ActionChains(page.driver, duration=20)
    if held:
        chain.key_down(held)
    chain.move_to_element_with_offset(area, *places[0]).click_and_hold()
    for place in places[1:]:
        chain.move_to_element_with_offset(area, *place)
    chain.release()
    if held:
        chain.key_up(held)
    chain.perform()


def around_all(page):
    """Corners just inside the map."""
    size = over(page).size
    x, y = int(size["width"] / 2) - 4, int(size["height"] / 2) - 4
    return [(-x, -y), (x, -y), (x, y), (-x, y)]


def test_points_have_the_colours_of_their_clusters(page):
    cards = opened_map(page)

    assert page.run(GROUPS) == [[name, size] for name, size, *_ in cards]
    for name, size, colour, _ in cards:
        # A point has some 90 pixels, and may lie below others.
        assert pixels(page, colour) > 10 * size, name


def test_a_lasso_selects_what_it_encloses(page, server):
    opened_map(page)

    drag(page, around_all(page), Keys.SHIFT)
    page.has("400 images selected")
    page.press(Keys.ESCAPE)
    page.until(lambda: "selected" not in page.text(), "nothing to be selected")
    page.click("button", "Lasso")
    drag(page, [(-5, -5), (-4, -5), (-4, -4), (-5, -4)])
    page.until(lambda: page.run(DRAWN), "the map to rest")
    assert "400 images selected" not in page.text()


def test_a_highlighted_cluster_is_selected_and_set_aside(page, server):
    cards = opened_map(page)
    name, size, colour, uid = cards[0]
    other = cards[1][2]

    page.click("button", re.compile(f"^{re.escape(name)}"))
    page.until(lambda: pixels(page, other) == 0, "the others to be faint")
    assert pixels(page, colour) > 10 * size
    page.click("button", f"Select the {size} highlighted")
    page.has(f"{size} images selected")
    page.press("o")
    page.until(lambda: [n for n, _ in page.run(GROUPS)][-1] == "Fits nowhere", "the legend")
    assert page.run(GROUPS)[-1] == ["Fits nowhere", size]
    page.until(lambda: pixels(page, colour) == 0, "its colour to be gone")

    found = Herd(server.herd).clustering(page.name)
    assert uid not in found.uids
    assert (found.uids == -1).sum() == size

    Herd(server.herd).edit(page.name).undo()
    page.until(lambda: [name, size] in page.run(GROUPS), "another's edit to be seen")
    page.until(lambda: pixels(page, colour) > 10 * size, "its colour to be back")


def test_an_image_is_found_and_selected_by_keys_alone(page):
    opened_map(page)
    for _ in range(60):
        page.press(Keys.TAB)
        if page.driver.switch_to.active_element == over(page):
            break
    assert page.driver.switch_to.active_element == over(page)

    page.press("b")
    for _ in range(40):
        page.press_with(Keys.ARROW_RIGHT, Keys.SHIFT)
        page.press_with(Keys.ARROW_DOWN, Keys.SHIFT)
    page.press(Keys.ENTER)
    page.has("400 images selected")
    page.press(Keys.ESCAPE)

    # From point to point, until one lies at the cross.
    for key in ("0", *[Keys.ARROW_LEFT] * 4, *[Keys.ARROW_UP] * 3, "+", *[Keys.ARROW_RIGHT] * 40):
        page.press(key, "x")
        if "1 image selected" in page.text():
            break
    page.has("1 image selected")


def test_pointing_shows_the_picture_and_its_name(page):
    opened_map(page)
    area = over(page)
    width = int(area.size["width"])
    pointed = "return document.querySelector('.map-over').classList.contains('points')"

    for x in range(-width // 2 + 10, width // 2 - 10, 9):
        ActionChains(page.driver, duration=0).move_to_element_with_offset(area, x, 0).perform()
        if page.run(pointed):
            break
    page.until(lambda: page.run("return document.querySelector('.map-tip img')?.complete"), "a tip")
    page.has("photo-")


def test_confidence_colours_the_map(page):
    cards = opened_map(page)
    page.run("document.querySelector('#map-by').focus()")
    page.press("h")

    page.has("doubtful stands out")
    page.until(lambda: pixels(page, cards[0][2]) == 0, "the clusters' colours to go")


def test_without_webgl_all_is_drawn_all_the_same(page):
    page.run("""const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
  return kind === "webgl2" ? null : get.call(this, kind, ...more);
};""")
    cards = opened_map(page)

    page.has("WebGL2 is not to be had here")
    for name, size, colour, _ in cards:
        assert pixels(page, colour) > 10 * size, name


def test_a_lost_drawing_comes_back(page):
    cards = opened_map(page)
    page.run("""window.lost = document.querySelector(".map-points").getContext("webgl2")
  .getExtension("WEBGL_lose_context"); lost.loseContext();""")
    page.run("setTimeout(() => lost.restoreContext(), 100)")

    name, size, colour, _ = cards[0]
    page.until(lambda: pixels(page, colour) > 10 * size, name)

"""Steps that several tests take."""

from selenium.webdriver import Keys

TICKS = ".tile[data-row] .tick"


def open_cluster(page, name):
    """Go to a cluster by its card."""
    page.click("link", "Clusters")
    page.click("link", name)
    page.the("heading", name)
    page.settled("cluster")


def rename(page, old, new):
    """Give a cluster another name."""
    open_cluster(page, old)
    page.click("button", "Rename")
    page.write(new, "Name")
    page.press(Keys.ENTER)


def pick(page, n):
    """Tick the first images of the cluster that is open; returns their rows."""

    def ticked(i):
        tick = page.run("return document.querySelectorAll(arguments[0])[arguments[1]]", TICKS, i)
        row = tick and page.run("return arguments[0].closest('.tile').dataset.row", tick)
        if tick:
            tick.click()
        return row

    rows = [int(page.until(lambda i=i: ticked(i), "an image to tick")) for i in range(n)]
    page.has(f"{n} image{'s' * (n > 1)} selected")
    return rows

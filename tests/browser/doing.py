"""Steps that several tests take."""


def open_cluster(page, name):
    """Go to a cluster by its card."""
    page.click("link", "Clusters")
    page.click("link", name)
    page.the("heading", name)


def rename(page, old, new):
    """Give a cluster another name."""
    open_cluster(page, old)
    page.click("button", "Rename")
    page.write(new, "Name")
    page.click("button", "Rename")


def pick(page, n):
    """Tick the first images of the cluster that is open; returns their rows."""
    ticks = ".tile[data-row] .tick"
    page.until(lambda: page.run(f"return document.querySelector('{ticks}')"), "images")
    rows = []
    for tick in page.run(f"return [...document.querySelectorAll('{ticks}')].slice(0, {n})"):
        tick.click()
        rows.append(int(page.run("return arguments[0].closest('.tile').dataset.row", tick)))
    page.has(f"{n} image{'s' * (n > 1)} selected")
    return rows

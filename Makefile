# make demo   sorts the example photographs and prints where the report is
# make test   installs the test tools as well and runs the whole suite
# make docs   builds the documentation into site/
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types docs browser clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/imageherd sort examples/clothing --herd demo.herd

# Two processes, a file of tests to either, with a thread each: 2 cores have room for no more.
test: .venv/installed-dev browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

# Its makers announce a successor on every run; the pages do not change by that.
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The report and the page of `imageherd serve` are tested in a real browser. As root, it is installed
# from Debian's packages; otherwise one that is there is used, and the tests fail without.
browser:
	@{ for b in chromium chromium-browser google-chrome; do command -v $$b && break; done; } \
		>/dev/null && command -v chromedriver >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; \
	else \
		echo "The tests need chromium and chromedriver:" \
			"sudo apt-get install chromium chromium-driver" >&2; exit 1; \
	fi

clean:
	rm -rf .venv demo.herd build dist site

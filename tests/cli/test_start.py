"""Starting: quick, without the heavy packages, and helpful about typos."""

import subprocess
import sys
import time

import pytest

from imageherd.cli import VERBS, options

HEAVY = ("torch", "onnxruntime", "transformers", "sklearn", "matplotlib", "pyarrow", "faiss")


def test_help_imports_nothing_heavy_and_is_quick():
    code = (
        "import sys\n"
        "from imageherd.cli import main\n"
        "sys.argv = ['imageherd', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = time.monotonic() - started
    assert done.stderr.strip() == "[]"
    assert "imageherd sort PHOTOS" in done.stdout
    # 0.15 s on an idle machine; a busy one gets some grace.
    assert seconds < 2


def test_importing_imageherd_brings_no_torch():
    code = "import sys, imageherd; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(run, verb):
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "  Examples:\n    imageherd " + verb in result.stdout
    assert "--json" in result.stdout
    commands = run("--help").stdout.partition("Commands:")[2]
    assert "..." not in commands, "a summary does not fit its line"


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("imageherd ")


def test_a_misspelt_verb_is_answered_with_the_closest(run):
    result = run("srot", "photos")
    assert result.exit_code == 2
    assert "Did you mean 'sort'" in result.stderr


def test_a_misspelt_option_is_answered_with_the_closest(run):
    result = run("sort", "photos", "--n-cluster", "3")
    assert result.exit_code == 2
    assert "--n-clusters" in result.stderr


def test_the_names_repeated_for_a_quick_help_are_the_real_ones():
    from imageherd.backbones import DEFAULT_BACKBONE
    from imageherd.cli import checks
    from imageherd.cli import export as export_verb
    from imageherd.device import DEVICES
    from imageherd.export import FORMATS, LINKS

    assert options.DEFAULT_METHOD in options.METHODS
    assert options.DEFAULT_BACKBONE == DEFAULT_BACKBONE
    assert checks.DEVICES == DEVICES
    assert (export_verb.FORMATS, export_verb.LINKS) == (FORMATS, LINKS)


def test_python_m_imageherd_is_the_same_program():
    done = subprocess.run(
        [sys.executable, "-m", "imageherd", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("imageherd ")

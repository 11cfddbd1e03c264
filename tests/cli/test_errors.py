"""What can go wrong: a sentence, the right exit code, no stack trace."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from imageherd.errors import ImageherdError
from imageherd.features.pipeline import EmbedSummary


def text(result) -> str:
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--n-clusters", "1"], "auto or a whole number of at least 2"),
        (["--n-clusters", "many"], "auto or a whole number of at least 2"),
        (["--n-clusters", "2.5"], "auto or a whole number of at least 2"),
        (["--n-clusters", "5000"], "more than the 6 images there are"),
        (["--method", "tps"], "Did you mean tsp? Choose from: auto, tsp, temi, "),
        (["--device", "gpu"], "Choose from: auto, cpu, cuda, mps"),
        (["--device", "cuda:x"], "Choose from: auto, cpu, cuda, mps"),
    ],
)
def test_values_are_checked_before_anything_slow(run, herd, photos, arguments, expected):
    result = run("sort", photos, *arguments)
    assert result.exit_code == 2
    assert expected in text(result)
    assert herd.calls == []


@pytest.mark.parametrize(
    "arguments", [["srot", "x"], ["sort", "x", "--bogus"], ["sort"], ["sort", "x", "--seed", "y"]]
)
def test_what_is_mistyped_is_told_as_json_too(run, herd, arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] in text(result)


def test_sort_lists_what_is_wrong_where_nothing_can_be_read(run, herd, photos, monkeypatch):
    nothing = EmbedSummary(n_images=8, n_embedded=0, n_unreadable=8, seconds=1.0)
    monkeypatch.setattr(herd, "embed", lambda *args, **options: herd.make(photos) or nothing)
    result = run("sort", photos)
    assert result.exit_code == 2
    assert "None of the 8 files" in text(result)
    assert "zero bytes" in result.stdout


def test_a_folder_of_photos_is_not_a_herd(run, photos):
    result = run("cluster", photos)
    assert result.exit_code == 2
    assert f"imageherd sort {photos}" in text(result)


def test_a_folder_whose_herd_lies_beside_it_is_pointed_there(run, made, photos):
    assert "Did you mean photos.herd?" in text(run("name", "photos"))


def test_a_herd_that_is_not_there(run):
    result = run("report", "nothing.herd")
    assert result.exit_code == 2
    assert "nothing.herd does not exist. To make a herd: imageherd sort PHOTOS" in text(result)


def test_a_herd_is_not_a_folder_of_photos(run, made):
    result = run("sort", made.path)
    assert result.exit_code == 2
    assert "is a herd, not a folder of images" in text(result)


def test_photos_that_are_not_there(run, photos):
    assert "does not exist" in text(run("sort", "nowhere"))
    assert "is a file; give the folder it is in" in text(run("sort", photos / "0.jpg"))


def test_a_folder_without_images(run, herd, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "letter.txt").write_text("no image")
    result = run("sort", "none")
    assert result.exit_code == 2
    assert "There is no image in" in text(result)


def test_the_images_of_two_folders_of_one_name_are_not_mixed_unasked(run, herd, photos, tmp_path):
    from imageherd.project import read_project, register_source

    register_source(tmp_path / "photos.herd", "folder:/other/photos")
    assert read_project(tmp_path / "photos.herd")["sources"]
    result = run("sort", photos)
    assert result.exit_code == 2
    assert "holds the images of another source (/other/photos)" in text(result)
    assert run("sort", photos, "--herd", "photos.herd").exit_code == 0


def test_a_herd_is_not_put_among_other_things(run, herd, photos):
    result = run("sort", photos, "--herd", photos)
    assert result.exit_code == 2
    assert "exists and is not a herd" in text(result)
    assert sorted(p.name for p in photos.iterdir() if p.suffix != ".jpg") == []


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("nonsense", "is not key=value"),
        ("n_clusters=4", "has an option of its own: --n-clusters"),
        ("seed_=4", "kmeans has no parameter seed_"),
        ("scalling=l2", "Did you mean scaling? It has, with these defaults:"),
    ],
)
def test_parameters_are_checked(run, made, param, expected):
    result = run("cluster", made.path, "--method", "kmeans", "--param", param)
    assert result.exit_code == 2
    assert expected in text(result)
    assert made.calls == []


def test_a_value_that_the_head_refuses_is_a_mistake_not_a_bug(run, made):
    made.fails["cluster"] = ValueError("scaling='no' is not known")
    result = run("cluster", made.path, "--method", "kmeans", "--param", "scaling=no")
    assert result.exit_code == 2
    assert "scaling='no' is not known" in text(result)


@pytest.mark.parametrize("rename", ["3", "x=y", "3=", "=y"])
def test_renamings_are_checked(run, made, rename):
    result = run("name", made.path, "--rename", rename)
    assert result.exit_code == 2
    assert "is not UID=TEXT" in text(result)


def test_export_wants_to_know_what_to_write(run, made):
    assert "say --to csv" in text(run("export", made.path, "sorted"))
    assert "Did you mean folders?" in text(run("export", made.path, "sorted", "--to", "folder"))
    assert made.calls == []


def test_assign_does_not_overwrite_nor_take_nonsense(run, made, photos):
    Path("placed.csv").write_text("mine")
    assert "exists already" in text(run("assign", made.path, photos, "--output", "placed.csv"))
    assert "out of range; give 0 or more, less than 1" in text(
        run("assign", made.path, photos, "--reject", "1")
    )
    assert made.calls == []


def test_errors_of_the_library_are_told_without_a_trace(run, herd, photos):
    herd.fails["embed"] = ImageherdError("The model [b]x[/b] is not here.")
    result = run("sort", photos)
    assert result.exit_code == 2
    assert text(result) == "Error: The model [b]x[/b] is not here."
    assert json.loads(run("sort", photos, "--json").stdout) == {
        "error": "The model [b]x[/b] is not here."
    }


def test_a_bug_says_so_and_where_its_traceback_is(run, herd, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    herd.fails["embed"] = KeyError("row")
    result = run("sort", photos)
    assert result.exit_code == 1
    assert "This is a bug in imageherd (KeyError: 'row')" in text(result)
    assert "Traceback (most recent" not in result.stderr
    (kept,) = tmp_path.glob("imageherd-*.txt")
    assert str(kept) in text(result)
    assert "Traceback (most recent" in kept.read_text()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_debug_prints_the_traceback(run, herd, photos, monkeypatch, how):
    herd.fails["embed"] = KeyError("row")
    if how == "environment":
        monkeypatch.setenv("IMAGEHERD_DEBUG", "1")
    result = run("sort", photos, *(["--debug"] if how == "option" else []))
    assert result.exit_code == 1
    assert "Traceback (most recent" in result.stderr


def test_a_full_disk_is_no_bug(run, herd, photos):
    herd.fails["embed"] = OSError(28, "No space left on device", "photos.herd/features")
    result = run("sort", photos)
    assert result.exit_code == 2
    assert "No space left on device: photos.herd/features" in text(result)
    assert "bug" not in text(result)


def test_ctrl_c_says_that_the_herd_is_kept_and_how_to_go_on(run, herd, photos, monkeypatch):
    monkeypatch.setattr("sys.argv", ["imageherd", "sort", "my photos", "--seed", "3"])
    herd.fails["embed"] = KeyboardInterrupt()
    result = run("sort", photos)
    assert result.exit_code == 130
    assert "photos.herd is kept" in text(result)
    assert "imageherd sort 'my photos' --seed 3" in text(result)
    herd.fails = {"estimate": KeyboardInterrupt()}
    elsewhere = run("sort", photos, "--herd", "new.herd")
    assert elsewhere.exit_code == 130
    assert "before anything was kept" in text(elsewhere)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_signals_end_a_verb_in_order(number, code):
    program = textwrap.dedent(
        f"""
        import os, time
        import typer
        from imageherd.cli.session import running

        def main():
            with running(as_json=False, quiet=False, debug=False):
                os.kill(os.getpid(), {int(number)})
                time.sleep(10)

        typer.run(main)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == code
    assert "Stopped" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_drama():
    program = textwrap.dedent(
        """
        import typer
        from imageherd.cli.session import running

        def main():
            with running(as_json=False, quiet=False, debug=False) as screen:
                for _ in range(100_000):
                    screen.line("a line of the result")

        typer.run(main)
        """
    )
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{program}' | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "a line of the result\n"
    assert done.stderr == ""
    assert done.returncode == 141


def test_warnings_of_imageherd_become_notes_and_others_stay_silent(run, herd, photos, monkeypatch):
    import warnings

    def embed(source, **options):
        warnings.warn_explicit("ours", UserWarning, str(Path(cli.__file__)), 1)
        warnings.warn_explicit("theirs", UserWarning, "/lib/other.py", 1)
        raise ImageherdError("enough")

    import imageherd.cli as cli

    monkeypatch.setattr(herd, "embed", embed)
    result = run("sort", photos)
    assert "Note: ours" in result.stderr
    assert "theirs" not in result.stderr
    assert "theirs" in run("sort", photos, "--debug").stderr


def test_devices_are_for_methods_that_share_batches(run, made):
    assert run("cluster", made.path, "--method", "cpp", "--devices", 2).exit_code == 0
    assert made.calls[-1][2]["devices"] == 2
    assert run("cluster", made.path, "--method", "cpp", "--devices", 1).exit_code == 0
    assert "devices" not in made.calls[-1][2]
    for method in ("tsp", "auto"):
        wrong = run("cluster", made.path, "--method", method, "--devices", 2)
        assert wrong.exit_code == 2
        said = " ".join(wrong.output.split())
        assert f"--devices 2 is for --method temi and cpp; leave it out with {method}." in said

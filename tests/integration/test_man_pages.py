"""The manual pages: they are whole, for whatever verbs, options and keys there are, and well-formed."""

import gzip
import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT

PAGES = ("hearth.1", "hearthd.8", "hearthd.conf.5")


def output(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def pages(bin_dir, sanitizer):
    """The text of each page, roff."""
    folder = bin_dir.parent / "docs" / "man"
    if sanitizer:
        pytest.skip("no manual pages are made of programs with sanitizers")
    return {name: gzip.decompress((folder / f"{name}.gz").read_bytes()).decode() for name in PAGES}


def plain(roff):
    return re.sub(r"\\f.", "", roff).replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'").replace("\\e", "\\")


def options(help_text):
    return re.findall(r"^ +(?:-\w, )?(--[a-z0-9-]+)", help_text, re.M)


def verbs(bin_dir):
    listed = output(bin_dir / "hearth", "help").split("\nOptions")[0]
    return [verb for verb in re.findall(r"^  ([a-z]+)", listed, re.M) if verb != "help"]


def test_every_verb_and_its_options_are_told(bin_dir, pages):
    page = plain(pages["hearth.1"])
    assert len(verbs(bin_dir)) >= 9
    sections = re.split(r"^\.S[SH] ", page, flags=re.M)
    for verb in verbs(bin_dir):
        (section,) = [s for s in sections if re.match(rf'"hearth {verb}\b', s)]
        help_text = output(bin_dir / "hearth", "help", verb)
        assert options(help_text), verb
        for option in options(help_text):
            assert f".TP\n{option}" in section or f", {option}" in section, (verb, option)
        for line in help_text.split("\nExamples:\n")[1].splitlines():
            assert line.strip() in section, (verb, line)


def test_every_flag_and_key_of_the_daemon_is_told(bin_dir, pages):
    help_text = output(bin_dir / "hearthd", "--help")
    flags, keys = help_text.split("Each key of the configuration file")
    assert len(options(flags)) >= 5 and len(options(keys)) >= 10
    for option in options(flags) + options(keys):
        assert option in plain(pages["hearthd.8"]), option
    for key in options(keys):
        assert f"\n{key[2:]} = " in plain(pages["hearthd.conf.5"]), f"systemd/hearthd.conf has no {key[2:]}"
    assert "[source " in plain(pages["hearthd.conf.5"])


def test_the_daemon_takes_the_example_that_is_told(bin_dir, tmp_path):
    text = (ROOT / "systemd" / "hearthd.conf").read_text()
    config = tmp_path / "hearthd.conf"
    config.write_text(re.sub(r"^#(?=[a-z\[])", "", text, flags=re.M))
    config.chmod(0o644)
    checked = subprocess.run([bin_dir / "hearthd", "--check-config", config], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_it_is_well_formed(pages, tmp_path, name):
    (tmp_path / name).write_text(pages[name])
    assert not re.search("@(verbs|options|flags|keys|version|date)@", pages[name])
    if not shutil.which("man") and not shutil.which("mandoc"):
        pytest.skip("neither man nor mandoc is installed")
    if shutil.which("man"):
        shown = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", tmp_path / name], capture_output=True,
                               text=True, env={**os.environ, "MANROFFOPT": "-ww", "LC_ALL": "C.UTF-8"})
        assert (shown.returncode, shown.stderr) == (0, "") and "SEE ALSO" in re.sub(".\b", "", shown.stdout)
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", tmp_path / name], capture_output=True, text=True)
        assert lint.stdout == ""

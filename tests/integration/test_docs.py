"""The documents: every command in them can be typed."""

import re
import shlex

import pytest
from conftest import ROOT
from test_man_pages import options, output, verbs

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page, program):
    """What is typed for a program: on lines of code, and in the text between backquotes."""
    lines = re.findall(r"^(?:    (?:\$ )?|\$ )(?:sudo )?(%s .*)$" % program, page.read_text(), re.M)
    return lines + re.findall(r"`(%s [^`]*)`" % program, page.read_text())


def words(command):
    """Its words up to the end of the command."""
    command = re.split(r" (?:\||&&|;|>|#|2>) ?|\$\(", command)[0]
    try:
        return shlex.split(command)
    except ValueError:  # an apostrophe of the text, a line that goes on
        return command.split()


@pytest.fixture(scope="module")
def known(bin_dir):
    """The options of each verb."""
    return {verb: options(output(bin_dir / "hearth", "help", verb)) for verb in verbs(bin_dir)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_verb_and_option_is_one(bin_dir, known, page):
    common = options(output(bin_dir / "hearth", "help"))
    for command in commands(page, "hearth"):
        _, *rest = words(command)
        rest = rest[: rest.index("--")] if "--" in rest else rest
        while rest and rest[0].startswith("--"):
            assert rest.pop(0).split("=")[0] in common, command
            rest = rest[1:]  # its value, as of --socket
        if not rest or not re.fullmatch("[a-z]+", rest[0]):
            continue  # `hearth VERB`
        verb = "load" if rest[0] == "help" else rest[0]
        assert verb in known, command
        for word in rest[1:]:
            if re.match("--[a-z]", word):
                assert word.split("=")[0].rstrip(".,;:") in known[verb] + common, command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_of_the_daemon_is_one(bin_dir, page):
    known = [*options(output(bin_dir / "hearthd", "--help")), "--version"]
    for command in commands(page, "hearthd"):
        for word in words(command)[1:]:
            if re.match("--[a-z]", word):
                assert word.split("=")[0].rstrip(".,;:") in known, command


def test_every_key_in_an_example_is_one(bin_dir, tmp_path):
    """Settings on lines of code below a comment that names the file."""
    found = 0
    for page in PAGES:
        for block in re.findall(r"^    # /etc/hearth/hearthd\.conf\n((?:    .*\n|\n(?=    ))*)", page.read_text(), re.M):
            found += 1
            config = tmp_path / "hearthd.conf"
            keys = re.findall(r"^    ([a-z-]+ = .*)$", block.split("    [")[0], re.M)
            config.write_text("\n".join(keys))
            assert keys and output(bin_dir / "hearthd", "--check-config", config).endswith(": ok\n"), page
    assert found >= 2

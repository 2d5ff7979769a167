"""Completion in bash and zsh: what is offered is what the programs take, and nothing else."""

import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from test_man_pages import options, output, verbs

BASH = ROOT / "completions" / "hearth.bash"
TRY = r"""
. "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
compopt() { :; }
case ${1##*/} in hearthd) _hearthd ;; *) _hearth ;; esac
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def offered(bin_dir, tmp_path):
    """offered("hearth", "load", "--v"): what bash offers for the last word."""

    def offer(program, *words, env=None):
        done = subprocess.run(["bash", "-c", TRY, BASH, bin_dir / program, *words], capture_output=True, text=True,
                              cwd=tmp_path, env=env or {"PATH": "/usr/bin:/bin", "HEARTH_SOCKET": "/nonexistent"})
        assert done.stderr == ""
        return done.stdout.splitlines()

    return offer


def test_every_verb_is_offered(bin_dir, offered):
    assert sorted(offered("hearth", "")) == sorted([*verbs(bin_dir), "help"])
    assert offered("hearth", "--timeout", "3s", "ev") == ["evict"]
    assert offered("hearth", "--socket", "=", "/x", "ev") == ["evict"]
    assert offered("hearth", "help", "evi") == ["evict"]


def test_every_option_of_every_verb_is_offered(bin_dir, offered):
    for verb in verbs(bin_dir):
        help_text = output(bin_dir / "hearth", "help", verb)
        assert sorted(offered("hearth", verb, "--")) == sorted(set(options(help_text))), verb
    assert "--version" in offered("hearth", "--")


def test_every_flag_of_the_daemon_is_offered(bin_dir, offered):
    assert sorted(offered("hearthd", "--")) == sorted([*options(output(bin_dir / "hearthd", "--help")), "--version"])


def test_the_values_that_a_key_takes_are_offered(bin_dir, offered, tmp_path):
    """A key that takes one of a few words says which in its error."""
    config, found = tmp_path / "hearthd.conf", 0
    for key in options(output(bin_dir / "hearthd", "--help")):
        config.write_text(f"{key[2:]} = no-value-of-it\n")
        said = subprocess.run([bin_dir / "hearthd", "--check-config", config], capture_output=True, text=True).stderr
        words = re.search(r"expected ((?:[a-z0-9_]+, )*[a-z0-9_]+ or [a-z0-9_]+)$", said.strip())
        if words and "no key" not in said:
            found += 1
            assert sorted(offered("hearthd", key, "")) == sorted(re.split(r", | or ", words[1])), key
    assert found >= 4
    assert offered("hearth", "load", "--verify", "a") == offered("hearth", "load", "--verify", "=", "a") == ["always"]


def test_files_are_offered_where_a_path_is_taken(offered, tmp_path):
    (tmp_path / "a model").mkdir()
    (tmp_path / "a.conf").write_text("")
    assert sorted(offered("hearth", "load", "a")) == ["a model", "a.conf"]
    assert offered("hearthd", "--config", "a.") == ["a.conf"]
    assert offered("hearth", "--socket", "a.") == ["a.conf"]
    assert offered("hearth", "ls", "a") == []
    assert offered("hearth", "run", "m", "--", "x", "a.") == ["a.conf"]
    assert "basename" in offered("hearth", "run", "m", "--", "basen")


def test_what_the_daemon_has_is_offered(bin_dir, offered, daemon, tmp_path):
    (tmp_path / "with space").mkdir()
    (tmp_path / "with space" / "config.json").write_text("{}")
    output("env", f"HEARTH_SOCKET={daemon.socket}", bin_dir / "hearth", "load", "-q", tmp_path / "with space")
    listed = output("env", f"HEARTH_SOCKET={daemon.socket}", bin_dir / "hearth", "ls").splitlines()[1].split()[0]
    env = {"PATH": "/usr/bin:/bin", "HEARTH_SOCKET": daemon.socket}
    assert offered("hearth", "evict", listed[:4], env=env) == [listed]
    assert f"{tmp_path}/with space" in offered("hearth", "evict", str(tmp_path), env=env)


def test_zsh_reads_it_and_offers_the_same(bin_dir, tmp_path):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    output("zsh", "-n", ROOT / "completions" / "_hearth")
    # An interactive shell on a terminal of its own: what it shows after TAB.
    script = tmp_path / "script"
    script.write_text(rf"""
zmodload zsh/zpty
zpty shell "zsh -f -i"
say() {{ zpty -w shell "$1"; }}
see() {{ local out; repeat 400 {{ zpty -r -t shell out && seen+=$out; [[ $seen == *$1* ]] && return 0; sleep 0.02; }}; return 1; }}
say 'PS1=READY; fpath=({ROOT}/completions $fpath); path=({bin_dir} $path); autoload -U compinit; compinit -u -D; echo do""ne'
see done
try() {{ seen=; zpty -n -w shell "$1"$'\t'; see "$2" || {{ print -r -- "'$1' did not give '$2' but: $seen"; exit 1; }}
    zpty -n -w shell $'\x15'; }}
try 'hearth evi' 'evict '
try 'hearth load --veri' '--verify='
try 'hearth load --verify=al' 'always'
try 'hearthd --log-level=war' 'warning'
try 'hearth help insp' 'inspect '
""")
    done = subprocess.run(["zsh", "-f", script], capture_output=True, text=True, timeout=60, cwd=tmp_path,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb", "HEARTH_SOCKET": "/nonexistent"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

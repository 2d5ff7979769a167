"""Installs a build somewhere, also one that belongs to another user."""

import os
import re
import subprocess


def output(*command, **keywords):
    return subprocess.run(command, check=True, capture_output=True, text=True, **keywords).stdout


def install(build, folder, prefix=None, destdir=None):
    """`cmake --install`, without its list of files in the build folder, which may not be ours to write to."""
    script = (build / "cmake_install.cmake").read_text()
    script, n = re.subn(r'"[^"]*/(\$\{CMAKE_INSTALL_MANIFEST\})', rf'"{folder}/\1', script)
    assert n >= 1
    ours = folder / "cmake_install.cmake"
    ours.write_text(script)
    flags = [f"-DCMAKE_INSTALL_PREFIX={prefix}"] if prefix else []
    env = {k: v for k, v in os.environ.items() if k != "DESTDIR"}
    output("cmake", *flags, "-P", str(ours), cwd=folder, env={**env, **({"DESTDIR": str(destdir)} if destdir else {})})

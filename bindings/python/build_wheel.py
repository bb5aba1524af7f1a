"""Builds a wheel that brings the ``holo`` program along, so that ``holocompute.local()`` finds it.

    python bindings/python/build_wheel.py --holo target/release/holo --out target/wheels

Needs ``maturin`` in the environment of the interpreter that runs this. Prints the path of the wheel.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The folder whose content maturin takes along, by its name: that of the native module.
SCRIPTS = HERE / "holocompute._native.data" / "scripts"


def main() -> int:
    """Copies the program into place, runs maturin, checks that one wheel came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--holo", type=Path, help="the holo program; without it the wheel has none")
    parser.add_argument("--out", type=Path, required=True, help="folder for the wheel")
    parser.add_argument("--profile", default="release", help="cargo profile of the native half")
    arguments = parser.parse_args()
    shutil.rmtree(SCRIPTS.parent, ignore_errors=True)
    if arguments.holo is not None:
        if not arguments.holo.is_file():
            print(f"no program at {arguments.holo}: build it with `cargo build --release`", file=sys.stderr)
            return 2
        SCRIPTS.mkdir(parents=True)
        shutil.copy2(arguments.holo, SCRIPTS / "holo")
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("holocompute-*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "maturin", "build", "--locked", "--profile", arguments.profile]
    command += ["--interpreter", sys.executable, "--out", str(out)]
    try:
        status = subprocess.run(command, cwd=HERE, check=False).returncode
    finally:
        # The next plain build must not take an old program along.
        shutil.rmtree(SCRIPTS.parent, ignore_errors=True)
    if status != 0:
        return status
    wheels = list(out.glob("holocompute-*.whl"))
    if len(wheels) != 1:
        print(f"one wheel was expected in {out}, not {len(wheels)}", file=sys.stderr)
        return 1
    print(wheels[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())

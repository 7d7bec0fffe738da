"""`python -m benchmarks.machines.versions`: the tests with the lowest and the newest promised versions.

    python -m benchmarks.machines.versions lowest                     # the lower bounds of pyproject.toml
    python -m benchmarks.machines.versions newest --python python3.13
    python -m benchmarks.machines.versions newest --torch 2.13.0      # one that is at hand

Each has an environment of its own, in .venv-NAME. Arguments that are not known here go to pytest.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def promised() -> tuple[list[str], list[str]]:
    """Return what pyproject.toml asks for: to run, and to test."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["dependencies"], project["optional-dependencies"]["dev"]


def lowest(requirement: str) -> str:
    """Return a requirement that allows only the lowest version of this one."""
    return requirement.replace(">=", "==").split(",")[0]


def requirements(kind: str, torch: str | None) -> list[str]:
    """Return what pip is to install; of the tools that only check the code, always the newest."""
    needed, development = promised()
    library = [each for each in development if each.startswith("transformers")]
    tools = [each for each in development if each not in library]
    versions = [lowest(each) if kind == "lowest" else each for each in (*needed, *library)]
    if torch:
        versions = [f"torch=={torch}" if re.match(r"torch\b", each) else each for each in versions]
    return [*versions, *tools]


def main() -> None:
    """Build the environment, say what is in it, and run the tests in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", choices=["lowest", "newest"])
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--torch", help="its version, where another than the one that pip would take")
    arguments, rest = parser.parse_known_args()
    name = f".venv-{arguments.kind}-{Path(arguments.python).name}"
    python = ROOT / name / "bin" / "python"
    if not python.exists():
        subprocess.run([arguments.python, "-m", "venv", str(ROOT / name)], check=True)
    install = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*install, *requirements(arguments.kind, arguments.torch)], check=True)
    subprocess.run([*install, "--no-deps", "--editable", str(ROOT)], check=True)
    listed = subprocess.run([*install[:-2], "freeze"], check=True, capture_output=True, cwd=ROOT)
    wanted = "|".join(re.split(r"[<>=]", each)[0] for each in (*promised()[0], "transformers", "tokenizers"))
    found = re.findall(rf"^(?:{wanted})==\S+", listed.stdout.decode(), flags=re.MULTILINE)
    print(f"{platform.machine()}, {arguments.kind}, {arguments.python}: {', '.join(found)}", flush=True)
    tests = [str(python), "-m", "pytest", "-n", "auto", "--dist", "loadfile", *rest]
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"}
    sys.exit(subprocess.run(tests, cwd=ROOT, check=False, env=environment).returncode)


if __name__ == "__main__":
    main()

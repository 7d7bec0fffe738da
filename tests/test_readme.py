"""Every command that README and docs show works as shown, from an empty folder with a text in it."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
RECIPES = {  # the texts of docs/recipes.md
    "lyrics.txt": "Tell me why the rain must fall,\ntell me, tell me, tell me all.\n\n",
    "chat.txt": "Ann: Did you see it?\nBen: I did, and it was great.\n",
    "names.txt": "Mary\nMartin\nSam\nDaniel\nMaria\nTom\nJohanna\n",
    "code/one.py": "def add(a, b):\n    return a + b\n\n\n",
    "collection.abc": "X: 1\nT: The Road\nZ: typed by hand\nM: 6/8\nK: G\nGAB c2d | e2d cBA | G3 G3 |]\n\n",
    "genome.fasta": ">a part of a genome\nATGGCTAAACTGACCGGCATTGATCGTTAA\nGGATTCCAGT\n",
    "german.txt": "Es war einmal ein König, der hatte drei Töchter. ",
}
SET_UP = ("make ", "pip install", "python -m benchmarks.")


def commands() -> list[str]:
    """Return the lines of all shell blocks, each once."""
    blocks = re.findall(r"^```sh\n(.*?)^```", "\n".join([README, *PAGES.values()]), re.DOTALL | re.MULTILINE)
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line.strip()))


def test_all_commands_in_their_order(tmp_path: Path) -> None:
    """Nothing is changed but the budget: a long one becomes short, and none a few steps."""
    (tmp_path / "story.txt").write_text("Once upon a time there was a text. " * 100, encoding="utf-8")
    (tmp_path / "poems").mkdir()
    (tmp_path / "poems" / "one.txt").write_text("Roses are red. " * 50, encoding="utf-8")
    (tmp_path / "notes.md").write_text("Violets are blue. " * 50, encoding="utf-8")
    for name, line in RECIPES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line * 60, encoding="utf-8")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MYGPT_STEPS": "8",
        "OMP_NUM_THREADS": "1",
    }
    lines = [line for line in commands() if not line.startswith(SET_UP)]
    assert len(lines) > 15

    def run(line: str) -> None:
        command = re.sub(r"--time \w+", "--steps 8", line).replace("--steps 500", "--steps 8")
        done = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            input=b"Once\n" if "--interactive" in command else b"",
            capture_output=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr.decode()}"

    with ThreadPoolExecutor(2) as pool:  # what trains comes one after the other, and the rest only reads
        for trains, some in groupby(lines, lambda line: "mygpt train" in line):
            for _ in map(run, some) if trains else pool.map(run, some):
                pass


def test_the_python_example(tmp_path: Path, cycle_run: Path) -> None:
    block = re.findall(r"^```python\n(.*?)^```", PAGES["checkpoints.md"], flags=re.DOTALL | re.MULTILINE)[0]
    program = block.replace("checkpoints/letters-001", str(cycle_run))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_benchmarks_exist() -> None:
    for name in re.findall(
        r"python -m benchmarks\.(\w+)", "".join([README, RESULTS, SECURITY, *PAGES.values()])
    ):
        folder = ROOT / "benchmarks" / name
        assert folder.with_suffix(".py").is_file() or folder.is_dir(), name


def test_no_figure_is_still_to_come() -> None:
    assert not re.search(r"\| @\d", README + RESULTS)


def test_exit_codes_are_those_of_the_program() -> None:
    from mygpt_cli.base import errors

    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGES["scripting.md"], flags=re.MULTILINE))
    kinds: list[type[errors.MygptError]] = [errors.MygptError, *errors.MygptError.__subclasses__()]
    assert {str(kind.exit_code) for kind in kinds} == set(table) - {"0"}


def test_metrics_have_the_fields_of_the_table(cycle_run: Path) -> None:
    import dataclasses
    import json
    from typing import get_args

    from mygpt_cli.checkpoints.metrics import Logged

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGES["training.md"], flags=re.MULTILINE)
    table = {event: re.sub(r"\(.*?\)", "", fields) for event, fields in rows}
    documented = {event: ["step", *re.findall(r"`(\w+)`", fields)] for event, fields in table.items()}
    kinds = get_args(Logged)
    assert documented == {
        kind.__name__.lower(): [field.name for field in dataclasses.fields(kind)] for kind in kinds
    }
    written = [
        json.loads(line) for line in (cycle_run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {record["event"] for record in written} >= set(documented) - {"noted", "corrected", "sampled"}
    for record in written:
        assert list(record) == ["event", *documented[record["event"]]]


def test_the_wheel_carries_the_recipes(tmp_path: Path) -> None:
    """What pip installs knows the presets, with no clone beside it."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    wheel = next(tmp_path.glob("mygpt-*.whl"))
    program = (
        f"import sys; sys.path.insert(0, {str(wheel)!r}); import mygpt_cli.config.sources as s;"
        f"assert {wheel.name!r} in s.__file__; print(s.from_preset('classic-cpu')['steps'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == b"2000", done.stderr.decode()


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 130
    pages = [(ROOT, README), *((ROOT / "docs", text) for text in PAGES.values())]
    for folder, text in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (folder / target).exists(), target


def test_troubleshooting_quotes_messages_that_there_are() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "mygpt_cli").rglob("*.py"))
    for message in re.findall(r"^\| `([^`]+)` \|", PAGES["troubleshooting.md"], flags=re.MULTILINE):
        for part in filter(None, (part.strip() for part in message.split("…"))):
            assert part in source, message


def test_how_it_works_names_files_that_there_are() -> None:
    for name in re.findall(r"`([a-z_]+/[a-z_]+\.py)`", PAGES["how-it-works.md"]):
        assert (ROOT / "mygpt_cli" / name).is_file() or (ROOT / name).is_file(), name

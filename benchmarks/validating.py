"""How fast ``validate`` is, beside ``orjson.loads`` alone and beside other checkers, and what it holds.

One core, the same lines for all, the best of several runs in turn, in seconds of processor time (a
busy machine matters little). Peers of the bench group (``make setup``) that are not installed are named
as such; as each is a command that reads the file itself, ours is run as a command beside them, with its
bytecode compiled before, as pip does for an installed package.

``--json`` prints one object: ``vs_orjson_ratio`` (strict lines, chat and service rules, sha256, exact
duplicates), ``all_rules_vs_orjson_ratio`` (everything ``validate`` does by default) and
``peak_mb_over_bare`` (its peak over a bare interpreter's, on a file of ``--peak-mb``). With two cores also
``second_process_ratio``: how many times as long one process takes as two, by the clock, for a file of
``--second-process-mb``, and the peak of the two together. Another program on either core spoils it.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import maas_client

_TEXT = """
account balance café calendar cancel change check customer delivery device différent door error
example family follow forward garden happen however important invoice journey kitchen language
letter machine market measure message minute number office order package payment people picture
please printer problem product question reason receipt refund remember report request restart
return river screen season sentence service seven signal station street support ticket together
travel understand update village warranty water window without yellow
"""
WORDS = _TEXT.split()


def text(rng: random.Random, words: int) -> str:
    """Return some sentences, now and then with a quotation, a list or an emoji.

    Most hold an é or a line feed, written as JSON escapes, as json.dumps does. The rates hang on
    that: prose of plain ASCII without one escape orjson reads half as fast again, and we do not.
    """
    sentences = []
    while words > 0:
        count = min(words, rng.randint(5, 18))
        sentence = " ".join(rng.choices(WORDS, k=count)).capitalize() + "."
        roll = rng.random()
        if roll < 0.015:
            sentence = f'They said "{sentence}"'
        elif roll < 0.1:
            sentence = f"\n{rng.randint(1, 9)}. {sentence}"
        elif roll < 0.12:
            sentence += " 🙂"
        sentences.append(sentence)
        words -= count
    return " ".join(sentences)


def line(rng: random.Random) -> bytes:
    """Return one chat of about 1.7 KB, of one to three turns."""
    messages = [{"role": "system", "content": "You answer for the shop, kindly and briefly."}]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        messages.append({"role": "user", "content": text(rng, rng.randint(10, 90))})
        messages.append({"role": "assistant", "content": text(rng, rng.randint(40, 220))})
    return json.dumps({"messages": messages}).encode() + b"\n"


def write(path: Path, size: int, *, different: int = 60_000) -> None:
    """Write ``size`` bytes of chats; after ``different`` chats they repeat, with a number inserted."""
    rng = random.Random(0)
    with path.open("wb") as file:
        lines: list[bytes] = []
        count = 0
        while file.tell() < size:
            if len(lines) < different:
                lines.append(line(rng))
            round_number, index = divmod(count, different)
            file.write(lines[index].replace(b"kindly", b"kindly %d" % round_number, 1))
            count += 1


def with_orjson(path: Path) -> None:
    """Parse the lines and nothing else; reading and splitting are not counted (see ``timed``)."""
    import orjson

    for each in LINES:
        orjson.loads(each)


def with_json(path: Path) -> None:
    """Plain ``json.loads`` of each line."""
    for each in LINES:
        json.loads(each)


def validate_rules(path: Path) -> None:
    """Strict lines, chat and service rules, sha256, exact duplicates."""
    from maas_client import validate

    assert validate(path, content=False).ok


def validate_all(path: Path) -> None:
    """Everything that ``validate`` does by default."""
    from maas_client import validate

    assert validate(path).ok


def cookbook(path: Path) -> None:
    """The loop of OpenAI's cookbook (Chat_finetuning_data_prep), as far as it checks the format."""
    errors: dict[str, int] = defaultdict(int)
    keys = ("role", "content", "name", "function_call", "weight")
    for example in map(json.loads, LINES):
        messages = example.get("messages") if isinstance(example, dict) else None
        if not messages:
            errors["missing_messages_list"] += 1
            continue
        for message in messages:
            if "role" not in message or "content" not in message:
                errors["message_missing_key"] += 1
            if any(k not in keys for k in message):
                errors["message_unrecognized_key"] += 1
            if message.get("role") not in ("system", "user", "assistant", "function"):
                errors["unrecognized_role"] += 1
            content, call = message.get("content"), message.get("function_call")
            if (not content and not call) or not isinstance(content, str):
                errors["missing_content"] += 1
        if not any(message.get("role") == "assistant" for message in messages):
            errors["example_missing_assistant_message"] += 1


def command(folder: Path, name: str, *args: str) -> Callable[[Path], None] | None:
    """Return a run of a peer's command line, or None if it is not in ``folder``."""
    program = folder.absolute() / name
    if not program.exists():
        return None

    def run(path: Path) -> None:
        process = subprocess.run(  # in the data's folder: one of them writes a report where it runs
            [str(program), *args, str(path)], capture_output=True, check=False, cwd=path.parent
        )
        assert process.returncode in (0, 1, 3), process.stderr  # a verdict, not a crash

    return run


LINES: list[bytes] = []
PEER_LINES = 1000
"""One of the peers takes minutes for more."""


def spent() -> float:
    """Return the seconds of processor time that this process and its ended children have taken."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def best_of(
    runs: int, contestants: dict[str, Callable[[Path], None]], path: Path
) -> dict[str, float]:
    """Return the best seconds of each, in turns so that a slow moment hits all."""
    best: dict[str, float] = {}
    for round_number in range(runs):
        for name, run in contestants.items():
            if round_number and best[name] > 3:
                continue
            start = spent()
            run(path)
            took = spent() - start
            best[name] = min(took, best.get(name, took))
    return best


_PEAK = """
import sys
if len(sys.argv) > 1:
    from maas_client import validate
    validate(sys.argv[1])
try:
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
except OSError:
    import resource
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""  # ru_maxrss would count the parent's peak as well


def peak_mb_over_bare(path: Path) -> float:
    """Return the peak memory of a process that validates ``path``, minus that of an empty process."""
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", _PEAK, *options])) / 1024
        for options in ((), (str(path),))
    ]
    return peaks[1] - peaks[0]


_SECOND_PROCESS = """
import json, os, sys, threading, time
from pathlib import Path
from maas_client import validate
from maas_client.dataset.scanners import duplicates_process

def resident_kb(process):
    try:
        text = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return int(text.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in text else 0

def watch():
    global peak_kb
    while not stop.wait(0.005):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        peak_kb = max(peak_kb, sum(map(resident_kb, ("self", *children))))

path, runs = sys.argv[1], int(sys.argv[2])
seconds = {1: [], 2: []}
for _ in range(runs):
    for processes in seconds:
        duplicates_process.has_idle_core = lambda: processes == 2
        start = time.perf_counter()
        validate(path)
        seconds[processes].append(time.perf_counter() - start)
if not runs:
    duplicates_process.has_idle_core = lambda: True
    peak_kb, stop = 0, threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    validate(path)
    stop.set()
    thread.join()
print(json.dumps([min(each) for each in seconds.values()] if runs else peak_kb / 1024))
"""


def measure_second_process(path: Path, cores: set[int], runs: int) -> dict[str, object]:
    """Return the seconds of one and of two processes, their ratio, and the peak memory of both together."""
    command = [sys.executable, "-c", _SECOND_PROCESS, str(path)]
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        one, two = json.loads(subprocess.check_output([*command, str(runs)]))
        peak_mb = json.loads(subprocess.check_output([*command, "0"]))  # in a process that is new
    finally:
        os.sched_setaffinity(0, pinned)
    bare = int(subprocess.check_output([sys.executable, "-c", _PEAK])) / 1024
    return {
        "second_process_file_mb": round(path.stat().st_size / 1e6, 1),
        "second_process_seconds": [round(one, 2), round(two, 2)],
        "second_process_ratio": round(one / two, 2),
        "second_process_peak_mb_over_bare": round(peak_mb - bare, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mb", type=int, default=64, help="size of the file for the rates")
    parser.add_argument("--peak-mb", type=int, default=256, help="size of the file for the peak")
    parser.add_argument(
        "--second-process-mb", type=int, default=125, help="size of that file (MiB)"
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--file", type=Path, help="measure the rates on this file")
    parser.add_argument("--peers", type=Path, default=Path(sys.executable).parent, metavar="BIN",
                        help="folder of the peers' commands (pip install parallelogram finelint)")  # fmt: skip
    args = parser.parse_args()
    cores: set[int] = set()
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder, "chats.jsonl")
        if not args.file:
            write(path, args.mb << 20)
        result = measure(path, args.runs, args.peers)
        big = Path(folder, "big.jsonl")
        write(big, args.peak_mb << 20)
        result["peak_mb_over_bare"] = round(peak_mb_over_bare(big), 1)
        result["peak_file_mb"] = args.peak_mb
        if len(cores) > 1:
            write(big, args.second_process_mb << 20)
            result |= measure_second_process(big, cores, args.runs)
    print(json.dumps(result) if args.json else table(result))


def measure(path: Path, runs: int, peers: Path) -> dict[str, object]:
    """Return rates and ratios on one file; commands of peers get its first ``PEER_LINES``."""
    LINES[:] = path.read_bytes().splitlines()
    functions: dict[str, Callable[[Path], None]] = {
        "orjson.loads": with_orjson,
        "maas-client, format": validate_rules,
        "maas-client, everything": validate_all,
        "json.loads": with_json,
        "cookbook's loop": cookbook,
    }
    commands = {
        "$ maas-client validate": command(Path(sys.executable).parent, "maas-client", "validate"),
        "$ parallelogram check": command(peers, "parallelogram", "check"),
        "$ finelint inspect": command(peers, "finelint", "inspect"),
    }
    best = best_of(runs, functions, path)
    rates = {name: path.stat().st_size / took for name, took in best.items()}
    compileall.compile_dir(Path(maas_client.__file__).parent, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.jsonl")
        few.write_bytes(b"\n".join(LINES[:PEER_LINES]) + b"\n")
        here = {name: run for name, run in commands.items() if run is not None}
        command_times = best_of(2, here, few)
        rates |= {name: few.stat().st_size / took for name, took in command_times.items()}
    bare = best["orjson.loads"]
    return {
        "vs_orjson_ratio": round(bare / best["maas-client, format"], 3),
        "all_rules_vs_orjson_ratio": round(bare / best["maas-client, everything"], 3),
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "lines": len(LINES),
        "mb_per_s": {name: round(rate / 1e6, 1) for name, rate in rates.items()},
        "command_lines": len(LINES[:PEER_LINES]),
        "not_installed": [name for name, run in commands.items() if run is None],
    }


def table(result: dict[str, object]) -> str:
    """Format the result as a table."""
    rates = result["mb_per_s"]
    assert isinstance(rates, dict)
    lines = [f"{name:<26}{rate:>9,.1f} MB/s" for name, rate in rates.items()]
    absent = result["not_installed"]
    assert isinstance(absent, list)
    lines += [f"{name:<26}not installed" for name in absent]
    lines.append(f"{'($: a process, its lines)':<26}{result['command_lines']:>9,}")
    for key, value in result.items():
        if key.endswith(("_ratio", "_over_bare")):
            lines.append(f"{key:<33}{value:>9}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

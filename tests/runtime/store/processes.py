"""Programs for the store's tests that need processes: started by path, so that no torch and no jax is imported.

    python processes.py <program> <directory> <arguments>

Each prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[3] / "runtime" / "tpu_dynamo_runtime" / "store"
KIND = "executable"


def start(program: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a program of this file."""
    command = [*before, sys.executable, "-I", __file__, program, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def result(process: subprocess.Popen[str]) -> Any:
    """Return the JSON that a program printed at its end."""
    out, error = process.communicate(timeout=900)  # a second or two on an idle machine
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


def sections(name: str, generation: int, size: int) -> dict[str, bytes]:
    """Bytes that follow from a name and a number."""
    return {part: random.Random(f"{name} {generation} {part}").randbytes(size) for part in ("executable", "outputs")}


def is_right(entry: Any, name: str, size: int) -> bool:
    return entry.sections == sections(name, entry.header.metadata["generation"], size)


def killed(root: Path, moments: int) -> dict[str, Any]:
    """Kill a writer at random moments; after each, look at everything that it may have left."""
    import store

    names, size, random_moment = [f"{i:064x}" for i in range(4)], 20_000, random.Random(moments)
    wrong, blocked, found, unfinished = 0, 0, 0, 0
    faults: dict[str, int] = {}
    for moment in range(moments):
        child = os.fork()
        if not child:
            write_for_ever(root, names, size, moment)
        time.sleep(random_moment.uniform(0, 0.04))  # the random moment itself
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        after = store.open_store(root, lock_timeout=0.0)
        for name in names:
            entry = after.get(KIND, name)
            found += entry is not None
            wrong += entry is not None and not is_right(entry, name, size)
            with after.exclusive(KIND, name) as held:
                blocked += not held
        assert after.directory is not None
        unfinished = sum(file.temporary for file in after.directory.files())
        wrong += len(list(store.verify_all(after)))
        for fault, count in after.faults.counts().items():
            faults[fault] = faults.get(fault, 0) + count
    later = store.open_store(root, clock=lambda: time.time() + 7200)
    store.prune(later)
    assert later.directory is not None
    left = sum(file.temporary for file in later.directory.files()) + len(list(later.directory.lock_files()))
    faults.update(later.faults.counts())
    return dict(wrong=wrong, blocked=blocked, found=found, unfinished=unfinished, left=left, faults=faults)


def write_for_ever(root: Path, names: list[str], size: int, moment: int) -> None:
    import store

    try:
        writer = store.open_store(root, lock_timeout=0.0)
        generation = moment * 1000
        made = {name: sections(name, generation, size) for name in names}
        while True:
            for name in names:
                with writer.exclusive(KIND, name):
                    writer.put(KIND, name, made[name], {"generation": generation})
    finally:
        os._exit(1)


def hammer(root: Path, count: int, rounds: int, max_bytes: int, made: Path) -> dict[str, Any]:
    """Get, or else make and put, numbered entries in a random order; `made` has a line for each that was made."""
    import store

    size, wrong, missed = 3000, 0, 0
    here = store.open_store(
        root, max_bytes=max_bytes, lock_timeout=900.0
    )  # the others hold it for milliseconds, unless they are not run
    log = os.open(made, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        for i in random.sample(range(count), count):
            name = f"{i:064x}"
            entry = here.get(KIND, name)
            if entry is None:
                with here.exclusive(KIND, name) as held:
                    missed += not held
                    entry = here.get(KIND, name)
                    if entry is None:
                        os.write(log, f"{i}\n".encode())
                        here.put(KIND, name, sections(name, i, size), {"generation": i})
            wrong += entry is not None and not is_right(entry, name, size)
    return dict(wrong=wrong, missed=missed, faults=here.faults.counts(), bytes=store.total_bytes(here))


def full(root: Path, limit: str) -> dict[str, Any]:
    """Write entries until there is no room; then make room and write one more."""
    import store

    if limit == "file":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    here, name = store.open_store(root), "f" * 64
    written = []
    for i in range(100):
        size = 10_000 * (i + 1)
        if not here.put(KIND, f"{i:064x}", sections("", i, size), {"generation": i}):
            break
        written.append(size)
    wrong = 0
    for i, size in enumerate(written):
        entry = here.get(KIND, f"{i:064x}")
        wrong += entry is None or not is_right(entry, "", size)
    with here.exclusive(KIND, name) as held:
        pass
    assert here.directory is not None
    temporary = sum(file.temporary for file in here.directory.files())
    faults = here.faults.counts()
    store.clear(here)
    again = here.put(KIND, name, sections(name, 0, 10_000), {})
    return dict(written=len(written), wrong=wrong, temporary=temporary, held=held, faults=faults, again=again)


def permission(root: Path, mode: int) -> dict[str, Any]:
    """Lose the permission to write, or to read too, while a store is open."""
    import store

    if not os.geteuid():
        os.setegid(65534)
        os.seteuid(65534)
    with tempfile.TemporaryDirectory() as folder:
        here, name, other = store.open_store(Path(folder) / "cache"), "0" * 64, "1" * 64
        assert here.directory is not None
        put = here.put(KIND, name, sections(name, 0, 1000), {"generation": 0})
        root = here.directory.root
        folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
        for path in reversed(folders):
            path.chmod(mode)
        entry = here.get(KIND, name)
        right = entry is not None and is_right(entry, name, 1000)
        with here.exclusive(KIND, name) as held:
            pass
        again = here.put(KIND, other, {}, {})
        before = here.faults.counts()
        here.reject(KIND, name, "no")
        store.clear(here)
        store.remove(here, KIND, name)
        listed = [item.problem for item in store.entries(here)]
        faults = here.faults.counts()
        # What is opened now is only read, and says so.
        late = store.open_store(root)
        late.put(KIND, name, {}, {})
        for path in folders:
            path.chmod(0o700)
    return dict(
        put=put, right=right, held=held, again=again, before=before, faults=faults, listed=len(listed),
        late=late.faults.counts(),
    )  # fmt: skip


def main(program: str, root: str, *arguments: str) -> None:
    """Import the store by its path, run a program, print what it gives."""
    sys.path.insert(0, str(SOURCE.parent))
    programs = {"killed": killed, "hammer": hammer, "full": full, "permission": permission}
    numbers = [int(argument) if argument.isdecimal() else argument for argument in arguments]
    print(json.dumps(programs[program](Path(root), *numbers)))


if __name__ == "__main__":
    main(*sys.argv[1:])

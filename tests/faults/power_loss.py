"""Cut the power of a server: what was written but not synchronised is lost.

    python -m tests.faults.power_loss --cuts 20 --seed 1

A library in front of the C library's ``fsync`` and ``fdatasync`` copies each file, as it is when it is
synchronised, into a second folder: what a disk is sure to have. The names of a folder (new files, renames,
deletions) are copied when the folder is. The server is killed, and another starts on the second folder.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.contract.server.conftest import chats
from tests.faults.crash_points import ServerProcess

_SHIM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void make_parents(char *path) {
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0; mkdir(path, 0700); *slash = '/';
    }
}

static void copy(int from, const char *path) {
    char draft[4096], buffer[65536];
    ssize_t size; off_t place = 0;
    snprintf(draft, sizeof draft, "%s.draft", path);
    make_parents(draft);
    int to = open(draft, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while ((size = pread(from, buffer, sizeof buffer, place)) > 0) {
        if (write(to, buffer, size) != size) abort();
        place += size;
    }
    close(to);
    rename(draft, path);
}

static void record(int fd) {
    const char *root = getenv("POWER_LOSS_ROOT"), *disk = getenv("POWER_LOSS_DISK");
    char link[64], path[2048] = {0}, target[4096], content[4096], source[4096];
    struct stat status, entry_status;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (!root || readlink(link, path, sizeof path - 1) < 0 || strncmp(path, root, strlen(root))) return;
    if (fstat(fd, &status)) return;
    snprintf(target, sizeof target, "%s/state%s", disk, path + strlen(root));
    pthread_mutex_lock(&lock);
    if (S_ISREG(status.st_mode)) {
        int file = open(link, O_RDONLY);  /* fd may be write-only */
        snprintf(content, sizeof content, "%s/inodes/%lu", disk, (unsigned long)status.st_ino);
        copy(file, content);
        copy(file, target);
        close(file);
    } else if (S_ISDIR(status.st_mode)) {
        struct dirent *entry;
        DIR *folder = opendir(target);
        while (folder && (entry = readdir(folder))) {  /* names that are gone */
            snprintf(source, sizeof source, "%s/%s", path, entry->d_name);
            snprintf(content, sizeof content, "%s/%s", target, entry->d_name);
            if (entry->d_type == DT_REG && access(source, F_OK)) unlink(content);
        }
        if (folder) closedir(folder);
        folder = opendir(path);
        while (folder && (entry = readdir(folder))) {  /* new names of synchronised contents */
            snprintf(source, sizeof source, "%s/%s", path, entry->d_name);
            if (entry->d_type != DT_REG || stat(source, &entry_status)) continue;
            snprintf(content, sizeof content, "%s/inodes/%lu", disk, (unsigned long)entry_status.st_ino);
            int file = open(content, O_RDONLY);
            if (file < 0) continue;
            snprintf(content, sizeof content, "%s/%s", target, entry->d_name);
            copy(file, content);
            close(file);
        }
        if (folder) closedir(folder);
    }
    pthread_mutex_unlock(&lock);
}

int fsync(int fd) {
    record(fd);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    record(fd);
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""
_JOBS = 6
BAD = ("lost", "lost_models", "lost_data", "failed")
"""Counts that must be zero."""


def is_available() -> bool:
    """Return whether the library can be built and loaded here."""
    return sys.platform == "linux" and shutil.which("cc") is not None


def build(folder: Path) -> Path:
    """Build the library in a folder and return its path."""
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(_SHIM)
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-O1",
        "-w",
        "-o",
        str(library),
        str(source),
        "-ldl",
        "-lpthread",
    ]
    subprocess.run(command, check=True)
    return library


def cut(folder: Path, library: Path, after: int, *, durable: bool = True) -> Counter[str]:
    """Cut the power after a number of acknowledged jobs, start a server again, and return counts."""
    disk = folder / "disk"
    (disk / "state").mkdir(mode=0o700, parents=True)
    preload = [
        f"LD_PRELOAD={library}",
        f"POWER_LOSS_ROOT={(folder / 'state').resolve()}",
        f"POWER_LOSS_DISK={disk}",
    ]
    data, names = chats(12), [f"job{number}" for number in range(_JOBS)]
    first = ServerProcess(folder, "env", *preload, durable=durable)
    azure = first.wait()
    assert azure is not None
    uri = azure.upload(data, "train.jsonl")
    acknowledged = [name for name in names[:after] if azure.submit(name, uri).status_code == 201]
    completed = [name for name in acknowledged[:1] if azure.wait(name) == "Completed"]
    first.child.kill()
    first.child.wait()
    azure.http.close()
    counts = Counter(cuts=1, acknowledged=len(acknowledged))
    second = ServerProcess(disk)
    azure = second.wait()
    assert azure is not None
    for name in acknowledged:
        if azure.arm("GET", f"/jobs/{name}").status_code != 200:
            counts["lost"] += 1
        elif name in completed:
            counts["lost_models"] += azure.status(name) != "Completed"
        else:
            counts["failed"] += azure.wait(name) != "Completed"
    stored = azure.blob("GET", "train.jsonl")
    counts["lost_data"] += stored.status_code != 200 or stored.content != data
    azure.http.close()
    second.stop()
    return counts


def run(cuts: int, seed: int) -> Counter[str]:
    """Cut the power several times and return the sums of the counts."""
    rng, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        for number in range(cuts):
            run_folder = Path(folder, str(number))
            run_folder.mkdir()
            counts += cut(run_folder, library, rng.randint(1, _JOBS))
            shutil.rmtree(run_folder)
    return counts


def main() -> None:
    """Cut the power as the command line says, and print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    counts = run(args.cuts, args.seed)
    print(json.dumps(counts))
    raise SystemExit(any(counts[name] for name in BAD))


if __name__ == "__main__":
    main()

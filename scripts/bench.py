#!/usr/bin/env python3
"""Measures reliab beside `tar | zstd` and other backup tools. Started by scripts/bench.

Every round runs each tool once, in an order that shifts from round to round, and the limit (what
plain tar, zstd and find need for the same job) is measured in the same round. What is reported is
the median of the rounds' ratios, so that a machine whose pace swings does not favour anyone.
"""

import argparse
import fcntl
import json
import math
import os
import platform
import random
import shutil
import signal
import sqlite3
import stat
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORES = os.cpu_count() or 1
MIB = 1 << 20
GIB = 1 << 30
PAGE = 4096
LIMIT = "limit"
SETTLE_SECONDS = 3  # a file changed just now may change again within its timestamp's grain
CHANGED_FILES = 926
CHANGED_ROWS = 2000
MILLION = 1_000_000


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


# --- Running and measuring -----------------------------------------------------------------------


@dataclass
class Measure:
    """One run of one program: seconds, and the resident KiB of its largest process."""

    wall: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    error: str = ""


def stop_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait(process, timeout):
    """Waits for the end, or for `timeout` seconds; true when it ended by itself.

    Popen.wait(timeout) polls every 50 ms, which would be most of what is measured here.
    """
    late = threading.Event()
    watchdog = threading.Timer(timeout, lambda: (late.set(), stop_group(process)))
    watchdog.start()
    try:
        process.wait()
    except BaseException:
        stop_group(process)
        process.wait()
        raise
    finally:
        watchdog.cancel()
    return not late.is_set()


def last_lines(path, count=3):
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-count:])[:400]


def parse_time(path):
    """The three figures GNU time wrote; it puts a remark before them when the program failed."""
    rss, user, system = path.read_text().split()[-3:]
    return int(rss), float(user) + float(system)


def measure(argv, scratch, timeout, env=None, cwd=None):
    """Runs a program under GNU time, which has so little memory itself that it leaves no floor."""
    figures, output = scratch / "time.txt", scratch / "output.txt"
    figures.unlink(missing_ok=True)
    timed = ["/usr/bin/time", "-q", "-o", figures, "-f", "%M %U %S", *argv]
    with open(output, "wb") as sink:
        start = time.perf_counter()
        process = subprocess.Popen(timed, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                                   env=env, cwd=cwd, start_new_session=True)
        ended = wait(process, timeout)
        wall = time.perf_counter() - start
    if not ended:
        return Measure(error=f"stopped after {timeout:.0f} s")
    if process.returncode != 0:
        return Measure(error=f"exit {process.returncode}: {last_lines(output)}")
    rss, cpu = parse_time(figures)
    return Measure(wall, cpu, rss)


def shell(script):
    return ["bash", "-o", "pipefail", "-c", script]


def run(*argv, **options):
    """Runs a step of the preparation, which must work."""
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]}: exit {done.returncode}: {(done.stderr or done.stdout)[-400:]}")
    return done.stdout


def remove(path):
    if path.exists():
        run("chmod", "-R", "u+rwx", path)
        run("rm", "-rf", path)


def entries(top):
    """Every entry below `top`, with its lstat, without recursion into links."""
    pending = [str(top)]
    while pending:
        with os.scandir(pending.pop()) as folder:
            for entry in folder:
                yield entry, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def content_size(top):
    """(regular files, their bytes) below `top`."""
    sizes = [status.st_size for _, status in entries(top) if stat.S_ISREG(status.st_mode)]
    return len(sizes), sum(sizes)


def free_bytes(path):
    """Room on the file system of `path`; on a tmpfs also no more than what memory can hold."""
    free = shutil.disk_usage(path).free
    if run("stat", "-f", "-c", "%T", path).strip() != "tmpfs":
        return free
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return min(free, int(line.split()[1]) * 1024)
    return free


# --- Source trees --------------------------------------------------------------------------------

NPM_PACKAGES = """next@15.1.3 react@19.0.0 react-dom@19.0.0 webpack@5.97.1 webpack-cli@6.0.1
    typescript@5.7.2 eslint@9.17.0 @babel/core@7.26.0 @babel/preset-env@7.26.0 jest@29.7.0
    vite@6.0.6 @angular/core@19.0.5 @angular/compiler-cli@19.0.5 @mui/material@6.3.0
    date-fns@4.1.0 lodash@4.17.21 rxjs@7.8.1 three@0.171.0 firebase@11.1.0 core-js@3.39.0""".split()


class Text:
    """Text-like bytes from a fixed seed: phrases of common words, and hexadecimal noise."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        letters = "eeeetttaaaooiinnsshhrrddllucmfwypvbgkjqxz"
        words = ["".join(self.rng.choices(letters, k=self.rng.randint(2, 9))) for _ in range(4000)]
        weights = [1 / (rank + 8) for rank in range(len(words))]
        self.phrases = [" ".join(self.rng.choices(words, weights, k=3)) for _ in range(30_000)]

    def prose(self, length):
        count = length // 8 + 1
        return " ".join(self.rng.choices(self.phrases, k=count))[:length]

    def noise(self, length):
        return self.rng.randbytes(length // 2 + 1).hex()[:length]


def build_linux(top):
    archive = Path("/usr/src/linux-source-6.1.tar.xz")
    if not archive.exists():
        raise RuntimeError(f"{archive} is missing: apt-get install linux-source-6.1")
    run("tar", "xJf", archive, "-C", top)


def build_node_modules(top):
    (top / "package.json").write_text('{"name": "bench", "private": true}\n')
    run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
        "--legacy-peer-deps", "--loglevel=error", *NPM_PACKAGES, cwd=top)


def build_rust(top):
    sysroot = run("rustc", "--print", "sysroot").strip()
    run("cp", "-a", f"{sysroot}/lib", top)


def build_small_files(top, count):
    """Folders of 1,000 files each, 600 bytes on average, a quarter of them noise."""
    text = Text(count)
    for number in range(count):
        folder = top / f"folder-{number // 1000:04}"
        if number % 1000 == 0:
            folder.mkdir()
        size = text.rng.randint(100, 1100)
        content = text.noise(size // 4) + " " + text.prose(size - size // 4 - 1)
        with open(f"{folder}/entry-{number % 1000:03}.txt", "w", encoding="ascii") as file:
            file.write(content)


def build_sqlite(top, rows=1_400_000):
    """A table whose rows are part text, part random bytes, in pages of 4 KiB."""
    text = Text(7)
    database = sqlite3.connect(top / "app.db", isolation_level=None)
    database.executescript(f"""PRAGMA page_size = {PAGE}; PRAGMA journal_mode = OFF;
        PRAGMA synchronous = OFF; BEGIN;
        CREATE TABLE event (id INTEGER PRIMARY KEY, status TEXT, body TEXT, payload BLOB);""")
    made = ((number, text.noise(16), text.prose(365), text.rng.randbytes(115))
            for number in range(1, rows + 1))
    database.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", made)
    database.execute("COMMIT")
    database.close()


def build_million(top):
    build_small_files(top, MILLION)


# What each tree needs of the work folder at its peak: itself, every tool's repository, one restored copy.
TREES = {
    "linux": ("Linux source", build_linux, 8 * GIB),
    "node_modules": ("node_modules", build_node_modules, 4 * GIB),
    "rust": ("Rust toolchain lib", build_rust, 3 * GIB),
    "million": ("a million small files", build_million, 16 * GIB),
    "sqlite": ("SQLite database", build_sqlite, 7 * GIB),
}


def title(tree):
    return TREES[tree][0]


def source_of(work, tree):
    """The tree's folder, built when it is not there yet."""
    top, stamp = work / "src" / tree, work / "src" / f".{tree}.done"
    if stamp.exists():
        return top
    say(f"building the tree {tree}")
    if free_bytes(work) < TREES[tree][2]:
        raise RuntimeError(f"not enough room in {work}: {tree} wants {show_bytes(TREES[tree][2])}")
    remove(top)
    top.mkdir(parents=True)
    TREES[tree][1](top)
    stamp.touch()
    time.sleep(SETTLE_SECONDS)
    return top


class Altered:
    """While a tree is not as it was built it counts as not built, should the run be stopped there."""

    def __init__(self, top):
        self.stamp = top.with_name(f".{top.name}.done")

    def __enter__(self):
        self.stamp.unlink(missing_ok=True)

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stamp.touch()


def warm(top):
    """Reads everything once, so that no tool pays for the first look at the tree."""
    for entry, status in entries(top):
        if stat.S_ISREG(status.st_mode) and status.st_size:
            with open(entry.path, "rb", buffering=0) as file:
                while file.read(MIB):
                    pass


# --- Changes between two snapshots ---------------------------------------------------------------


class Scenario:
    """A change to a tree, and its undoing."""

    every_round = False

    def __init__(self, work):
        self.work = work

    def limit_bytes(self):
        """What the change costs at least, or None where there is no such yardstick."""
        return None


class Copied(Scenario):
    key, label = "copy", "tree copied beside itself"

    def apply(self, top):
        run("cp", "-a", top / "linux-source-6.1", top / "linux-copy")

    def undo(self, top):
        remove(top / "linux-copy")


class Renamed(Scenario):
    key, label = "rename", "top folder renamed"

    def apply(self, top):
        (top / "linux-source-6.1").rename(top / "linux-renamed")

    def undo(self, top):
        (top / "linux-renamed").rename(top / "linux-source-6.1")


class Scattered(Scenario):
    """Every other file grows by a line; the rest have a few bytes altered in their middle."""

    key, label = "scattered", f"{CHANGED_FILES} scattered files changed"

    def chosen(self, top):
        files = sorted(entry.path for entry, status in entries(top)
                       if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= 64 << 10)
        return random.Random(CHANGED_FILES).sample(files, min(CHANGED_FILES, len(files)))

    def apply(self, top):
        self.originals = {}
        for number, path in enumerate(self.chosen(top)):
            status = os.stat(path)
            content = Path(path).read_bytes()
            self.originals[path] = (content, status.st_atime_ns, status.st_mtime_ns)
            self.alter(path, content, number)

    @staticmethod
    def alter(path, content, number):
        remark = f"/* change {number} */\n".encode()
        place = len(content) if number % 2 == 0 else max(0, len(content) // 2 - len(remark))
        with open(path, "r+b") as file:
            file.seek(place)
            file.write(remark)

    def undo(self, top):
        for path, (content, accessed, modified) in self.originals.items():
            with open(path, "r+b") as file:
                file.write(content)
                file.truncate()
            os.utime(path, ns=(accessed, modified))


class ModeChanged(Scenario):
    key, label = "chmod", "chmod -R g+w"

    def apply(self, top):
        run("chmod", "-R", "g+w", top / "linux-source-6.1")

    def undo(self, top):
        run("chmod", "-R", "g-w", top / "linux-source-6.1")


class RowsUpdated(Scenario):
    """The pages that the updates of 2,000 scattered rows touch, found once and then patched in."""

    key, label, every_round = "rows", f"{CHANGED_ROWS} scattered rows updated", True

    def __init__(self, work):
        super().__init__(work)
        self.before, self.after = {}, {}

    def prepare(self, database):
        """Updates a copy by SQL and keeps the pages in which the two differ."""
        copy = self.work / "updated.db"
        shutil.copyfile(database, copy)
        self.update_rows(copy)
        with open(database, "rb") as old, open(copy, "rb") as new:
            number = 0
            while page := old.read(PAGE):
                changed = new.read(PAGE)
                if page != changed:
                    self.before[number], self.after[number] = page, changed
                number += 1
        copy.unlink()

    @staticmethod
    def update_rows(path):
        text = Text(CHANGED_ROWS)
        database = sqlite3.connect(path)
        rows = database.execute("SELECT max(id) FROM event").fetchone()[0]
        updates = [(text.noise(16), number) for number in text.rng.sample(range(1, rows + 1), CHANGED_ROWS)]
        database.executemany("UPDATE event SET status = ? WHERE id = ?", updates)
        database.commit()
        database.close()

    @staticmethod
    def patch(database, pages):
        with open(database, "r+b") as file:
            for number, page in pages.items():
                file.seek(number * PAGE)
                file.write(page)

    def apply(self, top):
        if not self.after:
            self.prepare(top / "app.db")
        self.patch(top / "app.db", self.after)

    def undo(self, top):
        self.patch(top / "app.db", self.before)

    def limit_bytes(self):
        pages = b"".join(self.after[number] for number in sorted(self.after))
        return len(subprocess.run(["zstd", "-qc", "-3"], input=pages, capture_output=True, check=True).stdout)


# Cheap to undo first: the later ones leave traces in ctime that the next backup has to take in.
SCENARIOS = {"linux": [Copied, Renamed, Scattered, ModeChanged], "sqlite": [RowsUpdated]}


# --- Tools ---------------------------------------------------------------------------------------


class Tool:
    """A backup tool: the commands that make a repository, a backup and a restore."""

    name = ""
    note = ""

    def __init__(self, binary, state):
        self.binary = str(binary)
        self.state = state
        self.repo, self.home = state / "repo", state / "home"
        self.backups = 0

    def fresh(self):
        """An empty state: no repository, no cache."""
        remove(self.state)
        self.home.mkdir(parents=True)
        self.backups = 0
        for argv in self.init():
            run(*argv, env=self.env())

    def env(self):
        home = str(self.home)
        private = {"HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "XDG_CONFIG_HOME": f"{home}/config",
                   "XDG_DATA_HOME": f"{home}/data", "XDG_STATE_HOME": f"{home}/state"}
        return {**os.environ, **private, **self.settings()}

    def settings(self):
        return {}

    def init(self):
        return []

    def snapshot(self, source):
        """The next backup of `source`."""
        self.backups += 1
        return [self.binary, *map(str, self.backup(source))]

    def stored(self):
        return content_size(self.repo)[1]

    def version(self):
        return run(self.binary, "--version").splitlines()[0]

    def backup(self, source):
        raise NotImplementedError

    def restore(self, target):
        raise NotImplementedError


class Reliab(Tool):
    name = "reliab"
    note = "zstd 3; its first backup creates the repository"

    def settings(self):
        return {"RELIAB_CACHE_DIR": f"{self.home}/cache", "RELIAB_STATE_DIR": f"{self.home}/state"}

    def backup(self, source):
        return ["backup", source, "--repo", self.repo, "--compression", "3", "--quiet"]

    def restore(self, target):
        return [self.binary, "restore", "latest", "--repo", self.repo, "--target", target, "--quiet"]


class Restic(Tool):
    name = "restic"
    note = "compression auto; cannot do without encryption, nor without its slow key derivation"

    def settings(self):
        return {"RESTIC_REPOSITORY": str(self.repo), "RESTIC_PASSWORD": "bench",
                "RESTIC_CACHE_DIR": f"{self.home}/cache"}

    def version(self):
        return run(self.binary, "version").splitlines()[0]

    def init(self):
        return [[self.binary, "init", "--quiet"]]

    def backup(self, source):
        return ["backup", "--quiet", "--compression", "auto", source]

    def restore(self, target):
        return [self.binary, "restore", "--quiet", "latest", "--target", target]


class Rustic(Tool):
    name = "rustic"
    note = "zstd 3; cannot do without encryption"

    def settings(self):
        return {"RUSTIC_REPOSITORY": str(self.repo), "RUSTIC_PASSWORD": "bench",
                "RUSTIC_CACHE_DIR": f"{self.home}/cache", "RUSTIC_NO_PROGRESS": "true",
                "RUSTIC_LOG_LEVEL": "warn"}

    def init(self):
        return [[self.binary, "init", "--set-compression", "3"]]

    def backup(self, source):
        return ["backup", source]

    def restore(self, target):
        return [self.binary, "restore", "latest", target]


class Kopia(Tool):
    name = "kopia"
    note = "zstd; cannot do without encryption"

    def settings(self):
        return {"KOPIA_PASSWORD": "bench", "KOPIA_CONFIG_PATH": f"{self.home}/repository.config",
                "KOPIA_CACHE_DIRECTORY": f"{self.home}/cache", "KOPIA_LOG_DIR": f"{self.home}/log",
                "KOPIA_CHECK_FOR_UPDATES": "false"}

    def init(self):
        return [[self.binary, "repository", "create", "filesystem", f"--path={self.repo}"],
                [self.binary, "policy", "set", "--global", "--compression=zstd"]]

    def version(self):
        return super().version().split(" from:")[0]

    def backup(self, source):
        self.source = source
        return ["snapshot", "create", "--no-progress", source]

    def restore(self, target):
        return [self.binary, "snapshot", "restore", "--no-progress", self.source, target]


class Borg(Tool):
    name = "borg"
    note = "zstd,3; no encryption"

    def settings(self):
        return {"BORG_REPO": str(self.repo), "BORG_BASE_DIR": str(self.home),
                "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}

    def init(self):
        return [[self.binary, "init", "--encryption", "none"]]

    def backup(self, source):
        return ["create", "--compression", "zstd,3", f"::{self.backups}", source]

    def restore(self, target):
        return [self.binary, "extract", f"::{self.backups}"]


class Bupstash(Tool):
    name = "bupstash"
    note = "zstd:3; cannot do without encryption; saves no extended attributes unless asked"

    def settings(self):
        return {"BUPSTASH_REPOSITORY": str(self.repo), "BUPSTASH_KEY": f"{self.home}/key"}

    def init(self):
        return [[self.binary, "new-key", "--output", f"{self.home}/key"], [self.binary, "init"]]

    def backup(self, source):
        return ["put", "--quiet", "--compression", "zstd:3", "--send-log", self.home / "send-log",
                f"name=backup-{self.backups}", source]

    def restore(self, target):
        return [self.binary, "restore", "--quiet", "--ownership", "--query-cache",
                self.home / "query-cache", "--into", target, f"name=backup-{self.backups}"]


TOOLS = {kind.name: kind for kind in (Reliab, Bupstash, Kopia, Restic, Rustic, Borg)}


def reliab_binary(given):
    """The binary to measure, built when it is not there."""
    if given:
        return shutil.which(given)
    binary = ROOT / "target" / "release" / "reliab"
    if not binary.exists():
        say("building reliab")
        try:
            run("cargo", "build", "--release", "--locked", "--bin", "reliab", cwd=ROOT)
        except (OSError, RuntimeError) as error:
            say(f"reliab is not measured: {error}")
    return binary if binary.exists() else None


def find_tools(names, reliab, state):
    """(tools found, {name: version or why it is missing})."""
    found, versions = [], {}
    for name in names:
        binary = reliab_binary(reliab) if name == "reliab" else shutil.which(name)
        if not binary:
            versions[name] = "not found"
            continue
        tool = TOOLS[name](binary, state / name)
        try:
            versions[name] = tool.version().strip()
            found.append(tool)
        except (OSError, RuntimeError) as error:
            versions[name] = f"does not start: {error}"
    return found, versions


# --- The rounds ----------------------------------------------------------------------------------


@dataclass
class Record:
    """One measurement. `phase` is first, unchanged, restore, or the key of a scenario."""

    medium: str
    tree: str
    round: int
    phase: str
    tool: str
    wall: float = 0.0
    cpu: float = 0.0
    rss: int = 0
    bytes: int = 0
    error: str = ""


@dataclass
class Bench:
    """Measures one tree after another; `place` holds repositories, targets and the plain archive."""

    work: Path
    place: Path
    medium: str
    tools: list
    timeout: float
    records: list = field(default_factory=list)

    def __post_init__(self):
        self.target = self.place / "target"
        self.archive = self.place / "plain.tar.zst"
        self.logs = self.work / "log"
        self.logs.mkdir(parents=True, exist_ok=True)

    def measure_tree(self, tree, runs, only_growth=False):
        top = source_of(self.work, tree)
        warm(top)
        scenarios = [kind(self.work) for kind in SCENARIOS.get(tree, [])] if self.medium == "tmpfs" else []
        for number in range(runs):
            due = [scenario for scenario in scenarios if number == 0 or scenario.every_round]
            if only_growth and not due:
                break
            self.round(Round(self, tree, number, top), due, only_growth)

    def round(self, current, scenarios, only_growth):
        try:
            current.first(limit=not only_growth)
            if not only_growth:
                current.unchanged()
                current.restore()
            current.growth(scenarios)
        finally:
            current.clear()

    def settle(self):
        """Lets nothing of what was written before be paid for in the next measurement."""
        if self.medium in ("disk", "data"):
            os.sync()

    def add(self, record):
        self.records.append(record)
        outcome = f"FAILED: {record.error}" if record.error else describe(record)
        say(f"{record.medium} {record.tree} round {record.round + 1} {record.phase:10} {record.tool:9} {outcome}")


def describe(record):
    stored = f" {record.bytes / 1e6:9.2f} MB" if record.bytes else ""
    return f"{record.wall:8.2f} s {record.rss / 1024:7.0f} MiB{stored}"


class Round:
    """One round on one tree: every tool does each step once before the next step begins."""

    def __init__(self, bench, tree, number, top):
        self.bench, self.tree, self.number, self.top = bench, tree, number, top
        shift = number % max(1, len(bench.tools))
        self.tools = bench.tools[shift:] + bench.tools[:shift]

    def note(self, phase, tool, measured, size=0):
        self.bench.add(Record(self.bench.medium, self.tree, self.number, phase, tool, bytes=size, **asdict(measured)))

    def measure(self, argv, **options):
        self.bench.settle()
        return measure(argv, self.bench.logs, self.bench.timeout, **options)

    def limit(self, phase, script, archive=None):
        measured = self.measure(shell(script))
        self.note(phase, LIMIT, measured, archive.stat().st_size if archive and archive.exists() else 0)

    def drop(self, tool):
        """A tool that failed takes no further part in this round."""
        self.tools = [other for other in self.tools if other is not tool]

    def first(self, limit=True):
        """The first backup into an empty repository."""
        if limit:
            self.bench.archive.unlink(missing_ok=True)
            self.limit("first", f"tar c -C '{self.top.parent}' '{self.top.name}' "
                       f"| zstd -q -3 -T{CORES} -o '{self.bench.archive}'", self.bench.archive)
        for tool in list(self.tools):
            measured = self.prepared(tool) or self.measure(tool.snapshot(self.top), env=tool.env())
            self.note("first", tool.name, measured, 0 if measured.error else tool.stored())
            if measured.error:
                self.drop(tool)

    @staticmethod
    def prepared(tool):
        """Nothing when the empty repository is ready, and otherwise why it is not."""
        try:
            tool.fresh()
        except (OSError, RuntimeError) as error:
            return Measure(error=str(error))
        return None

    def unchanged(self):
        """A second backup, with nothing changed."""
        for _ in range(3):
            self.limit("unchanged", f"find '{self.top}' -printf '%s %T@ %C@ %i\\n' >/dev/null")
        for tool in list(self.tools):
            measured = self.measure(tool.snapshot(self.top), env=tool.env())
            self.note("unchanged", tool.name, measured)
            if measured.error:
                self.drop(tool)

    def restore(self):
        target = self.bench.target
        target.mkdir(parents=True)
        self.limit("restore", f"zstd -qdc '{self.bench.archive}' | tar x -C '{target}'")
        remove(target)
        self.bench.archive.unlink(missing_ok=True)
        self.restore_tools()

    def restore_tools(self):
        """Restores with every tool; one that does not bring back every file and byte has failed."""
        wanted, target = content_size(self.top), self.bench.target
        for tool in self.tools:
            target.mkdir(parents=True)
            measured = self.measure([str(word) for word in tool.restore(target)], env=tool.env(), cwd=target)
            found = content_size(target)
            if not measured.error and found != wanted:
                measured.error = f"restored {found[0]} files of {found[1]} bytes instead of {wanted[0]} of {wanted[1]}"
            self.note("restore", tool.name, measured)
            remove(target)

    def growth(self, scenarios):
        """Each scenario begins with the repositories as they were before the first one."""
        alone = len(scenarios) < 2
        for tool in self.tools:
            if not alone:
                self.keep(tool)
        for scenario in scenarios:
            self.scenario(scenario)
            for tool in self.tools:
                if not alone:
                    self.reset(tool)

    def kept(self, tool):
        return tool.state.with_name(f"{tool.name}.kept")

    def keep(self, tool):
        remove(self.kept(tool))
        run("cp", "-a", tool.state, self.kept(tool))

    def reset(self, tool):
        remove(tool.state)
        run("cp", "-a", self.kept(tool), tool.state)

    def scenario(self, scenario):
        ready = [tool for tool in self.tools if self.caught_up(tool, scenario)]
        before = {tool.name: tool.stored() for tool in ready}
        with Altered(self.top):
            scenario.apply(self.top)
            time.sleep(SETTLE_SECONDS)
            limit = scenario.limit_bytes()
            if limit:
                self.note(scenario.key, LIMIT, Measure(), limit)
            for tool in ready:
                measured = self.measure(tool.snapshot(self.top), env=tool.env())
                grown = 0 if measured.error else tool.stored() - before[tool.name]
                self.note(scenario.key, tool.name, measured, grown)
            scenario.undo(self.top)
        time.sleep(SETTLE_SECONDS)

    def caught_up(self, tool, scenario):
        """A backup of the tree as it is now, so that no earlier change is counted with the next."""
        measured = self.measure(tool.snapshot(self.top), env=tool.env())
        if measured.error:
            self.note(scenario.key, tool.name, measured)
        return not measured.error

    def clear(self):
        self.bench.archive.unlink(missing_ok=True)
        remove(self.bench.target)
        for tool in self.bench.tools:
            remove(tool.state)
            remove(self.kept(tool))


# --- Growth of cost ------------------------------------------------------------------------------

FILE_STEPS = (10_000, 100_000, 1_000_000)
DATA_STEPS = (1, 10, 40)
BIG_FILE = 256 * MIB


def build_data(top, gib):
    """Files of 256 MiB, a quarter noise and the rest prose, streamed to the disk."""
    text = Text(gib)
    prose = text.prose(4 * MIB).encode()
    noise, words = 16 << 10, 48 << 10
    for number in range(gib * GIB // BIG_FILE):
        with open(top / f"part-{number:04}.bin", "wb") as file:
            for _ in range(BIG_FILE // (noise + words)):
                file.write(text.rng.randbytes(noise))
                start = text.rng.randrange(len(prose) - words)
                file.write(prose[start:start + words])
            file.flush()
            os.fsync(file.fileno())


def forget_pages(top):
    """Makes the next read of these files come from the disk: 40 GiB could not be warm."""
    for entry, status in entries(top):
        if stat.S_ISREG(status.st_mode):
            with open(entry.path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Curve:
    """Time and memory of one tool, and of the limit, while the number of files, or of bytes, grows."""

    def __init__(self, bench, runs):
        self.bench, self.runs = bench, runs

    def files(self):
        for count in FILE_STEPS:
            self.step("files", count, count * 15 * 1024, lambda top, count=count: build_small_files(top, count))

    def data(self):
        for gib in DATA_STEPS:
            self.step("data", gib, gib * GIB * 3 // 2, lambda top, gib=gib: build_data(top, gib))

    def step(self, kind, size, room, build):
        place = self.bench.place
        if free_bytes(place) < room:
            say(f"curve: {size} {kind} needs {show_bytes(room)} in {place}, and there is less: skipped")
            return
        top = place / "curve"
        remove(top)
        top.mkdir()
        try:
            build(top)
            time.sleep(SETTLE_SECONDS)
            for number in range(self.runs):
                current = Round(self.bench, f"{kind}:{size}", number, top)
                try:
                    if kind == "data":
                        self.cold(current, room)
                    else:
                        self.warm(current)
                finally:
                    current.clear()
        finally:
            remove(top)

    @staticmethod
    def warm(current):
        """Beside the limit: whether a line bends because of the tool or because of the kernel is seen in the ratio."""
        current.first()
        current.unchanged()
        current.restore()

    def cold(self, current, room):
        """Without the limit: its archive would need as much room again."""
        forget_pages(current.top)
        current.first(limit=False)
        current.unchanged()
        if free_bytes(self.bench.place) > room:
            current.restore_tools()


# --- What the records say ------------------------------------------------------------------------


class Results:
    """Questions to the records of one medium."""

    def __init__(self, records, medium):
        self.records = [record for record in records if record.medium == medium]

    def select(self, tree, phase, tool):
        return [record for record in self.records
                if (record.tree, record.phase, record.tool) == (tree, phase, tool) and not record.error]

    def trees(self):
        return list(dict.fromkeys(record.tree for record in self.records))

    def tools(self):
        seen = {record.tool for record in self.records}
        return [name for name in TOOLS if name in seen]

    def peers(self):
        return [name for name in self.tools() if name != "reliab"]

    def median(self, tree, phase, tool, what):
        values = [getattr(record, what) for record in self.select(tree, phase, tool)]
        return statistics.median(values) if values else None

    def by_round(self, tree, phase, tool, what):
        rounds = {}
        for record in self.select(tree, phase, tool):
            rounds.setdefault(record.round, []).append(getattr(record, what))
        return {number: statistics.median(values) for number, values in rounds.items()}

    def ratio(self, tree, phase, tool, what="wall", base=LIMIT):
        """The median of the rounds' ratios to the limit, or to another tool."""
        ours, theirs = self.by_round(tree, phase, tool, what), self.by_round(tree, phase, base, what)
        ratios = [ours[number] / theirs[number] for number in ours if theirs.get(number)]
        return statistics.median(ratios) if ratios else None

    def best_peer(self, tree, phase, what):
        """(name, median) of the peer with the least, or None."""
        medians = {name: self.median(tree, phase, name, what) for name in self.peers()}
        known = {name: value for name, value in medians.items() if value is not None}
        return min(known.items(), key=lambda pair: pair[1]) if known else None

    def failures(self):
        return [record for record in self.records if record.error]


def show_bytes(count):
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", 1024)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def show_seconds(seconds):
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def show_mb(count):
    return f"{count / 1e6:.1f} MB" if abs(count) >= 1e5 else f"{count / 1e3:.1f} KB"


def table(header, rows, align="--:"):
    lines = [header, ["---", *[align] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- Targets -------------------------------------------------------------------------------------


@dataclass
class Target:
    """One line of the table of targets: what was asked, what came out."""

    subject: str
    tree: str
    wanted: str
    measured: str
    met: bool

    def row(self):
        return [self.subject, title(self.tree), self.wanted, self.measured, "met" if self.met else "**missed**"]


class Judge:
    """Holds the results against the targets; a line with nothing measured is left out."""

    def __init__(self, results):
        self.results = results
        self.lines = []

    def judge(self):
        for tree in self.results.trees():
            self.first(tree)
            self.unchanged(tree)
            self.restore(tree)
            self.stored(tree)
            self.memory(tree)
        self.growth()
        return self.lines

    def add(self, subject, tree, wanted, measured, met):
        self.lines.append(Target(subject, tree, wanted, measured, met))

    def at_most(self, subject, tree, phase, bound, limit_name, what="wall"):
        ratio = self.results.ratio(tree, phase, "reliab", what)
        if ratio is not None:
            self.add(subject, tree, f"≤ {bound} × {limit_name}", f"{ratio:.2f} ×", ratio <= bound)

    def below_every_tool(self, subject, tree, phase, what="wall", bound=1.0):
        ours, best = self.results.median(tree, phase, "reliab", what), self.results.best_peer(tree, phase, what)
        if ours is None or best is None:
            return
        ratio = self.results.ratio(tree, phase, "reliab", what, base=best[0])
        wanted = "below every tool" if bound == 1.0 else f"≤ {bound} × the fastest tool"
        met = ratio < 1.0 if bound == 1.0 else ratio <= bound
        self.add(subject, tree, wanted, f"{ratio:.2f} × {best[0]}", met)

    def first(self, tree):
        subject = "first backup"
        self.at_most(subject, tree, "first", 1.4 if tree == "million" else 1.2, f"`tar \\| zstd -3 -T{CORES}`")
        self.below_every_tool(subject, tree, "first")
        if tree in ("linux", "node_modules"):
            self.below_every_tool(subject, tree, "first", bound=0.8)

    def unchanged(self, tree):
        self.at_most("nothing changed", tree, "unchanged", 1.7, "`find -printf`")
        self.below_every_tool("nothing changed", tree, "unchanged")

    def restore(self, tree):
        self.at_most("restore", tree, "restore", 1.0, "`zstd -dc \\| tar x`")
        self.below_every_tool("restore", tree, "restore")

    def stored(self, tree):
        if tree == "million":
            self.at_most("stored", tree, "first", 1.25, "the `.tar.zst`", "bytes")
        self.below_every_tool("stored", tree, "first", "bytes")

    def memory(self, tree):
        bound = 150 if tree == "million" else 120
        for phase, subject in (("first", "first backup"), ("unchanged", "nothing changed"), ("restore", "restore")):
            peak = self.results.median(tree, phase, "reliab", "rss")
            if peak is not None and not (tree == "million" and phase == "restore"):
                mib = peak / 1024
                self.add(f"peak memory, {subject}", tree, f"≤ {bound} MiB", f"{mib:.0f} MiB", mib <= bound)

    def growth(self):
        for kind in SCENARIOS["linux"]:
            bound = 3.5 if kind is Scattered else 5.0
            grown = self.results.median("linux", kind.key, "reliab", "bytes")
            if grown is not None:
                self.add(kind.label, "linux", f"≤ {bound} MB", show_mb(grown), grown <= bound * 1e6)
        key, label = RowsUpdated.key, RowsUpdated.label
        self.at_most(label, "sqlite", key, 1.3, "`zstd -3` of the changed pages", "bytes")
        self.below_every_tool(f"{label}: time", "sqlite", key, bound=0.4)


# --- The report ----------------------------------------------------------------------------------


class Report:
    """Markdown tables, each put between its own markers so that prose can stand around them."""

    def __init__(self, machine, records):
        self.machine = machine
        self.records = records

    def update(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else "# Benchmarks\n"
        drawing = path.with_name(f"{path.stem}-curve.svg")
        for name, body in self.sections(drawing.name).items():
            text = put_section(text, name, body)
        path.write_text(text)
        if self.has_curve():
            drawing.write_text(draw(self.records))
        say(f"wrote {path}")

    def has_curve(self):
        return any(record.medium in ("files", "data") for record in self.records)

    def sections(self, drawing):
        media = {record.medium for record in self.records}
        parts = {}
        if media & {"tmpfs", "disk"}:
            parts["machine"] = self.conditions()
        if "tmpfs" in media:
            parts["targets"], parts["tmpfs"] = self.targets(), self.tables("tmpfs")
        if "disk" in media:
            parts["disk"] = self.tables("disk")
        if self.has_curve():
            parts["curve"] = self.curve(drawing)
        return parts

    def conditions(self):
        facts = [f"- {name}: {value}" for name, value in self.machine["facts"].items()]
        versions = [[name, version, TOOLS[name].note] for name, version in self.machine["versions"].items()]
        return "\n".join(facts) + "\n\n" + table(["tool", "version", "settings"], versions, "---")

    def targets(self):
        lines = Judge(Results(self.records, "tmpfs")).judge()
        if not lines:
            return "No figures of reliab yet."
        met = sum(line.met for line in lines)
        return f"{met} of {len(lines)} met.\n\n" + table(
            ["what", "tree", "target", "measured", ""], [line.row() for line in lines], "---")

    def tables(self, medium):
        results = Results(self.records, medium)
        parts = [self.tree_table(results, tree) for tree in results.trees() if results.select(tree, "first", LIMIT)]
        parts += [growth for tree in results.trees() if (growth := self.growth_table(results, tree))]
        if results.failures():
            parts.append(self.failures(results))
        return "\n\n".join(parts)

    def tree_table(self, results, tree):
        rounds = self.rounds(results, tree)
        shape = self.machine.get("trees", {}).get(tree)
        size = f" ({shape['files']:,} files, {show_bytes(shape['bytes'])})" if shape else ""
        header = ["tool", "first", "memory", "stored", "nothing changed", "memory", "restore", "memory"]
        rows = [self.tree_row(results, tree, name) for name in [LIMIT, *results.tools()]]
        return f"### {title(tree)}{size}\n\nRounds: {rounds}.\n\n" + table(header, rows)

    @staticmethod
    def rounds(results, tree):
        """How many rounds each tool had; one number where that is the same for all."""
        count = {tool: len({record.round for record in results.records if (record.tree, record.tool) == (tree, tool)})
                 for tool in results.tools()}
        if len(set(count.values())) == 1:
            return str(next(iter(count.values())))
        return ", ".join(f"{tool} {number}" for tool, number in count.items())

    def tree_row(self, results, tree, tool):
        cells = [tool]
        for phase in ("first", "unchanged", "restore"):
            cells += [figure(results, tree, phase, tool, "wall"), figure(results, tree, phase, tool, "rss")]
            if phase == "first":
                cells.append(figure(results, tree, phase, tool, "bytes"))
        return cells

    def growth_table(self, results, tree):
        kinds = [kind for kind in SCENARIOS.get(tree, [])
                 if any(record.phase == kind.key for record in results.records)]
        if not kinds:
            return ""
        tools = [name for name in [LIMIT, *results.tools()]
                 if any(results.select(tree, kind.key, name) for kind in kinds)]
        rows = [[name, *[growth_figure(results, tree, kind.key, name) for kind in kinds]] for name in tools]
        return (f"### Growth of the repository: {title(tree)}\n\nBytes added, and the time it took.\n\n"
                + table(["tool", *[kind.label for kind in kinds]], rows))

    def failures(self, results):
        lines = [f"- {record.tool}, {title(record.tree)}, {record.phase}, round {record.round + 1}: {record.error}"
                 for record in results.failures()]
        return "### Failed runs\n\n" + "\n".join(lines)

    def curve(self, drawing):
        rows = [row for medium in ("files", "data") for row in self.curve_rows(Results(self.records, medium))]
        return (f"![Time and memory as files and bytes grow]({drawing})\n\n"
                + table(["size", "phase", "tool", "rounds", "time", "limit", "ratio", "memory"], rows))

    def curve_rows(self, results):
        tool = next(iter(results.tools()), None)
        for tree in sorted(results.trees(), key=size_of):
            for phase in PHASE_COLOURS:
                if rounds := results.select(tree, phase, tool):
                    yield self.curve_row(results, tree, phase, tool, len(rounds))

    @staticmethod
    def curve_row(results, tree, phase, tool, rounds):
        limit, ratio = results.median(tree, phase, LIMIT, "wall"), results.ratio(tree, phase, tool)
        kind = "files" if tree.startswith("files") else "GiB"
        return [f"{size_of(tree):,} {kind}", phase, tool, str(rounds), show_seconds(results.median(tree, phase, tool, "wall")),
                "–" if limit is None else show_seconds(limit), "–" if ratio is None else f"{ratio:.2f} ×",
                show_bytes(results.median(tree, phase, tool, "rss") * 1024)]


def figure(results, tree, phase, tool, what):
    """A cell: the ratio to the limit where that says something, and the absolute value."""
    value = results.median(tree, phase, tool, what)
    if value is None:
        failed = any((record.tree, record.phase, record.tool) == (tree, phase, tool) for record in results.failures())
        return "failed" if failed else "–"
    if what == "rss":
        return f"{value / 1024:.0f} MiB"
    shown = show_seconds(value) if what == "wall" else show_bytes(value)
    ratio = results.ratio(tree, phase, tool, what)
    return shown if tool == LIMIT or ratio is None else f"{ratio:.2f} × ({shown})"


def growth_figure(results, tree, key, tool):
    grown = results.median(tree, key, tool, "bytes")
    if grown is None:
        return "–"
    if tool == LIMIT:
        return show_mb(grown)
    return f"{show_mb(grown)}, {show_seconds(results.median(tree, key, tool, 'wall'))}"


def put_section(text, name, body):
    """`text` with what lies between the markers of `name` replaced; they are appended where missing."""
    begin, end = f"<!-- bench:{name}:begin -->", f"<!-- bench:{name}:end -->"
    section = f"{begin}\n\n{body}\n\n{end}"
    if begin in text and end in text:
        return text[: text.index(begin)] + section + text[text.index(end) + len(end):]
    return f"{text.rstrip()}\n\n## {name.capitalize()}\n\n{section}\n"


# --- The drawing ---------------------------------------------------------------------------------

PHASE_COLOURS = {"first": "#1f77b4", "unchanged": "#2ca02c", "restore": "#d62728"}
PANEL_WIDTH, PANEL_HEIGHT = 420, 280
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 60, 40, 310, 190


class Panel:
    """One plot: size to the right, time or memory up, both logarithmic, so that cost in proportion
    to size is a straight line with the slope of the dashed one."""

    def __init__(self, caption, series, unit, left, top):
        self.caption, self.series, self.unit = caption, series, unit
        self.left, self.top = left + PLOT_LEFT, top + PLOT_TOP
        points = [point for line in series.values() for point in line]
        self.columns = sorted({x for x, _ in points})
        self.low = math.floor(math.log10(min(y for _, y in points)))
        self.high = max(self.low + 1, math.ceil(math.log10(max(y for _, y in points))))

    def at(self, x, y):
        span = math.log10(self.columns[-1] / self.columns[0]) or 1
        across = math.log10(x / self.columns[0]) / span
        up = (math.log10(y) - self.low) / (self.high - self.low)
        return self.left + across * PLOT_WIDTH, self.top + PLOT_HEIGHT * (1 - up)

    def draw(self):
        return "\n".join([self.frame(), self.proportion(), *self.lines()])

    def frame(self):
        parts = [f'<text x="{self.left}" y="{self.top - 14}" class="caption">{self.caption}</text>',
                 f'<rect x="{self.left}" y="{self.top}" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}" class="frame"/>']
        for power in range(self.low, self.high + 1):
            _, y = self.at(self.columns[0], 10.0 ** power)
            parts.append(f'<line x1="{self.left}" x2="{self.left + PLOT_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0 ** power:g} {self.unit}</text>')
        for column in self.columns:
            x, _ = self.at(column, 10.0 ** self.low)
            parts.append(f'<text x="{x:.1f}" y="{self.top + PLOT_HEIGHT + 16}" text-anchor="middle">{column:,}</text>')
        return "\n".join(parts)

    def proportion(self):
        """From the largest first backup down to the left, as far as the frame goes."""
        line = self.series.get("first") or next(iter(self.series.values()))
        x, y = line[-1]
        start = max(self.columns[0], x * 10.0 ** self.low / y)
        (x1, y1), (x2, y2) = self.at(start, y * start / x), self.at(x, y)
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="proportion"/>'

    def lines(self):
        for phase, line in self.series.items():
            places = [self.at(x, y) for x, y in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            colour = PHASE_COLOURS[phase]
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            for x, y in places:
                yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def size_of(tree):
    """How many files, or GiB, a tree of the curve has."""
    return int(tree.split(":")[1])


def curve_series(records, medium, what, scale):
    """{phase: [(size, median)]} of the runs that worked."""
    results, series = Results(records, medium), {}
    tool = next(iter(results.tools()), None)
    for tree in sorted(results.trees(), key=size_of):
        for phase in PHASE_COLOURS:
            value = results.median(tree, phase, tool, what)
            if value is not None:
                series.setdefault(phase, []).append((size_of(tree), value / scale))
    return series


def draw_legend(x, y):
    parts = []
    for number, (phase, colour) in enumerate(PHASE_COLOURS.items()):
        label = {"first": "first backup", "unchanged": "nothing changed"}.get(phase, phase)
        parts.append(f'<circle cx="{x + number * 140}" cy="{y}" r="4" fill="{colour}"/>')
        parts.append(f'<text x="{x + number * 140 + 10}" y="{y + 4}">{label}</text>')
    parts.append(f'<line x1="{x + 420}" x2="{x + 445}" y1="{y}" y2="{y}" class="proportion"/>')
    parts.append(f'<text x="{x + 452}" y="{y + 4}">in proportion to size</text>')
    return "\n".join(parts)


STYLE = """text { font: 12px sans-serif; fill: #333 } .caption { font-weight: bold }
.frame { fill: none; stroke: #888 } .grid { stroke: #ddd }
.proportion { stroke: #888; stroke-width: 1.5; stroke-dasharray: 5 4 }"""


def draw(records):
    panels = []
    for row, (medium, words) in enumerate((("files", "number of files"), ("data", "GiB of data"))):
        for column, (what, scale, unit, name) in enumerate(
                (("wall", 1, "s", "time"), ("rss", 1024, "MiB", "peak memory"))):
            series = curve_series(records, medium, what, scale)
            if series:
                caption = f"{name} by {words}"
                panels.append(Panel(caption, series, unit, column * PANEL_WIDTH, row * PANEL_HEIGHT).draw())
    width, height = 2 * PANEL_WIDTH, 2 * PANEL_HEIGHT + 30
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{STYLE}</style>", f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *panels, draw_legend(PLOT_LEFT, height - 20), "</svg>", ""])


# --- The command line ----------------------------------------------------------------------------


def machine_facts(tools, versions):
    cpu = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in cpu.splitlines() if line.startswith("model name")),
                 platform.machine())
    flags = cpu.split()
    extensions = "sha_ni" in flags or "sha2" in flags
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "facts": {
            "processor": f"{model}, {CORES} cores, {'with' if extensions else 'without'} SHA extensions",
            "memory": show_bytes(memory),
            "kernel": platform.release(),
            "limit": f"{run('tar', '--version').splitlines()[0]}, {run('zstd', '--version').strip(' *' + chr(10))}",
            "date": time.strftime("%Y-%m-%d"),
        },
        "versions": versions,
        "trees": {},
    }


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures reliab beside tar | zstd and other backup tools.",
        epilog="--install-peers, given first, installs the other tools where the package registries have them.")
    parser.add_argument("--trees", type=names_of(TREES), default=list(TREES), metavar="A,B", help=", ".join(TREES))
    parser.add_argument("--tools", type=names_of(TOOLS), default=list(TOOLS), metavar="A,B", help=", ".join(TOOLS))
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="rounds per tree (default 3)")
    parser.add_argument("--work", type=Path, default=Path("/dev/shm/reliab-bench"), metavar="DIR",
                        help="trees, repositories and targets; a tmpfs (default %(default)s)")
    parser.add_argument("--disk", type=Path, metavar="DIR",
                        help="second table, repositories and targets on this disk (only the Linux tree); "
                             "also where --curve keeps its gigabytes")
    parser.add_argument("--reliab", metavar="PATH", help="default target/release/reliab, built when missing")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="for one run (default 3600)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw results")
    parser.add_argument("--from-json", type=Path, nargs="+", default=[], metavar="FILE",
                        help="measure nothing, report what these hold")
    parser.add_argument("--report", type=Path, metavar="FILE", help="update the tables of docs/benchmarks.md")
    parser.add_argument("--only-growth", action="store_true", help="only how repositories grow")
    parser.add_argument("--curve", action="store_true", help="only growth of cost, 10⁴ to 10⁶ files, 1 to 40 GiB")
    return parser.parse_args()


def names_of(known):
    def parse(text):
        names = [name for name in text.split(",") if name]
        wrong = [name for name in names if name not in known]
        if wrong:
            raise argparse.ArgumentTypeError(f"{wrong[0]} is none of {', '.join(known)}")
        return names
    return parse


def lock(work):
    """Two benchmarks in one folder would measure each other."""
    work.mkdir(parents=True, exist_ok=True)
    handle = open(work / "lock", "w", encoding="ascii")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fail(f"another benchmark runs in {work}")
    return handle


def measure_trees(options, bench, machine, trees, runs):
    for tree in trees:
        try:
            bench.measure_tree(tree, runs, options.only_growth)
            files, size = content_size(options.work / "src" / tree)
            machine["trees"][tree] = {"files": files, "bytes": size}
        except (OSError, RuntimeError) as error:
            say(f"{tree}: {error}; this tree is left out")
            bench.add(Record(bench.medium, tree, 0, "tree", "source", error=str(error)))


def measure_curve(options, tools):
    """The curve of the first tool asked for, which is reliab unless --tools says otherwise."""
    tool = next((tool for tool in tools if tool.name == options.tools[0]), None)
    if tool is None:
        fail(f"--curve measures {options.tools[0]}, which was not found")
    records = []
    disk = options.disk or options.work
    for medium, place in (("files", options.work), ("data", disk)):
        place.mkdir(parents=True, exist_ok=True)
        placed = type(tool)(tool.binary, place / "state" / tool.name)
        bench = Bench(options.work, place, medium, [placed], options.timeout, records)
        getattr(Curve(bench, options.runs), medium)()
    return records


def measure_all(options):
    if not os.access("/usr/bin/time", os.X_OK):
        fail("GNU time is missing: apt-get install time")
    guard = lock(options.work)
    tools, versions = find_tools(options.tools, options.reliab, options.work / "state")
    machine = machine_facts(tools, versions)
    for name, version in versions.items():
        say(f"{name}: {version}")
    if not tools:
        fail("none of the tools was found")
    records = []
    if options.curve:
        records = measure_curve(options, tools)
    else:
        measure_trees(options, Bench(options.work, options.work, "tmpfs", tools, options.timeout, records),
                      machine, options.trees, options.runs)
        if options.disk:
            options.disk.mkdir(parents=True, exist_ok=True)
            on_disk, _ = find_tools(options.tools, options.reliab, options.disk / "state")
            measure_trees(options, Bench(options.work, options.disk, "disk", on_disk, options.timeout, records),
                          machine, [tree for tree in options.trees if tree == "linux"], options.runs)
    guard.close()
    return machine, records


def read_results(paths):
    """The records of several runs as one: the same tree in a later file is further rounds of it, and later files
    replace what earlier ones say of the machine."""
    machine, records, rounds = {"facts": {}, "versions": {}, "trees": {}}, [], {}
    for path in paths:
        document = json.loads(path.read_text())
        for part, values in document["machine"].items():
            machine[part].update(values)
        found = [Record(**record) for record in document["records"]]
        before = dict(rounds)
        for record in found:
            tree = (record.medium, record.tree)
            record.round += before.get(tree, 0)
            rounds[tree] = max(rounds.get(tree, 0), record.round + 1)
        records += found
    return machine, records


def main():
    options = arguments()
    machine, records = read_results(options.from_json) if options.from_json else measure_all(options)
    if options.json:
        document = {"machine": machine, "records": [asdict(record) for record in records]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    report = Report(machine, records)
    if options.report:
        report.update(options.report)
    else:
        for name, body in report.sections("benchmarks-curve.svg").items():
            print(f"## {name}\n\n{body}\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        fail("stopped; what was begun is in the work folder and the next run clears it")

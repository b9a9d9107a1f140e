"""The files of the repository, their text with and without comments, and a cache of verdicts."""

import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import time

CPP = (".cpp", ".hpp")
KERNEL_FOLDERS = ("include/", "arch/", "boot/", "kernel/", "mm/")
# Tests that are linked into the kernel obey the kernel's rules; host tests, fuzzers and the boot shim are programs of
# their own.
IN_KERNEL_TESTS = ("tests/unit/", "tests/stress/", "tests/bench/")
CACHE = "build/lint-cache"
CACHE_DAYS = 30
# The compilers' heaps in huge pages, for hosts that give those to who asks: an eighth of clang-tidy's time.
HEAP = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
_TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.DOTALL)


def _blank(match):
    """Keeps the line numbers; a string becomes an empty string, a digit separator stays."""
    text = match[0]
    if text.startswith('"'):
        return '""'
    if text.startswith("'"):
        return "' '"
    return "\n" * text.count("\n")


def strip_code(text):
    """C++ without comments and without the contents of strings."""
    text = re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", "", text)
    return _TOKEN.sub(_blank, text)


class Cache:
    """Verdicts by the hash of everything that they depend on. An entry's text is the complaints, empty for none."""

    def __init__(self):
        os.makedirs(CACHE, exist_ok=True)

    def get(self, key):
        path = os.path.join(CACHE, key)
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            os.utime(path)
            return text
        except OSError:
            return None

    def put(self, key, text):
        path = os.path.join(CACHE, key)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.{os.getpid()}", path)

    def prune(self):
        """Forgets what nobody asked for in a month."""
        oldest = time.time() - CACHE_DAYS * 86400
        for entry in os.scandir(CACHE):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


class Tree:
    """All files that belong to the project: tracked, or new and not ignored."""

    def __init__(self, jobs, tidy_tests=True, runs_tidy=False):
        self.jobs = jobs
        self.tidy_tests = tidy_tests
        self.runs_tidy = runs_tidy
        self.cache = Cache()
        self._texts = {}
        self._digests = {}
        self._programs = {}
        self.files = sorted(path for path in self._list() if os.path.isfile(path))

    @staticmethod
    def _list():
        git = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True, check=False)
        if git.returncode == 0 and git.stdout:
            return set(git.stdout.splitlines())
        found = set()
        for folder, folders, names in os.walk("."):
            folders[:] = [name for name in folders if name not in (".git", "build", "__pycache__")]
            found.update(os.path.relpath(os.path.join(folder, name)) for name in names)
        return found

    def text(self, path):
        if path not in self._texts:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                self._texts[path] = file.read()
        return self._texts[path]

    def cpp(self):
        """Every C++ file."""
        return [path for path in self.files if path.endswith(CPP)]

    def kernel_cpp(self):
        """C++ that ends up in the kernel."""
        return [path for path in self.cpp() if path.startswith(KERNEL_FOLDERS + IN_KERNEL_TESTS)]

    def kernel_sources(self):
        return [path for path in self.kernel_cpp() if path.endswith(".cpp")]

    def tidy_sources(self):
        """Those that clang-tidy looks at."""
        return [path for path in self.kernel_sources() if self.tidy_tests or not path.startswith(IN_KERNEL_TESTS)]

    def untidied_sources(self):
        """Those that it does not look at in this run."""
        return sorted(set(self.kernel_sources()) - set(self.tidy_sources() if self.runs_tidy else ()))

    def kernel_headers(self):
        return [path for path in self.kernel_cpp() if path.endswith(".hpp")]

    def digest(self, path, seen=None):
        """A hash of the file and of all files of ours that it includes."""
        if seen is None:
            if path not in self._digests:
                self._digests[path] = self.digest(path, set())
            return self._digests[path]
        seen.add(path)
        total = hashlib.sha256(self.text(path).encode("utf-8", "surrogateescape"))
        for name in INCLUDE.findall(self.text(path)):
            for candidate in (f"include/{name}", os.path.join(os.path.dirname(path), name), name):
                if os.path.isfile(candidate):
                    if candidate not in seen:
                        total.update(self.digest(candidate, seen).encode())
                    break
        return total.hexdigest()

    def program(self, name):
        """What makes one version of a tool differ from the next."""
        if name not in self._programs:
            path = os.path.realpath(shutil.which(name) or name)
            status = os.stat(path) if os.path.exists(path) else None
            self._programs[name] = f"{path} {status and (status.st_size, int(status.st_mtime))}"
        return self._programs[name]

    def run_cached(self, command, paths, extra=""):
        """Runs a compiler over files unless the verdict on these contents is known. Returns its complaints."""
        words = "\n".join([self.program(command[0]), *command, extra, *(self.digest(path) for path in paths)])
        key = hashlib.sha256(words.encode()).hexdigest()
        known = self.cache.get(key)
        if known is None:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                                    env=HEAP | os.environ)
            known = "" if result.returncode == 0 else result.stdout or f"{paths[0]}: {command[0]} failed silently"
            self.cache.put(key, known)
        return known

    def for_each(self, paths, function):
        """Complaint texts of function(path) for all paths, `jobs` at a time, in the order of the paths."""
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            return [text for text in pool.map(function, paths) if text]

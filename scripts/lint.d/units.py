"""Sources put together into few translation units, for tools that spend most of their time in the headers.

A unit is a file of several sources of ours. Two sources go into one unit only if nothing that one keeps to itself, in
an unnamed namespace or in a macro, has the name of something that the other or its headers declare. That is found by
reading, not by compiling: where it is wrong the compiler says so, and the caller looks at the sources one by one.
"""

import bisect
import os
import re

from tree import INCLUDE, strip_code

UNITS = "build/lint-units"
LINES = 3000  # of one unit: enough to share the headers; in larger ones the analyzer sees what is not there
# It defines the C library's functions as C declares them, which is not as the headers of the C++ library do.
ALONE = ("kernel/lib/memory.cpp",)

_WORD = re.compile(r"[A-Za-z_]\w*")
_PIECE = re.compile(r"\b[A-Za-z_]\w*|[{}()\[\];=,]|<[^<>;{}()]*>")
_ANY_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<][^">\n]+[">])[^\n]*', re.MULTILINE)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)", re.MULTILINE)
_OPENS_ALL = re.compile(r"^using enum\b", re.MULTILINE)  # names that cannot be read off the line
_COMPLAINT = re.compile(r"^(\S+?):(\d+):\d+: (?:error|warning|fatal error): (.*)$", re.MULTILINE)
_NAMES_A_CHECK = re.compile(r"\[(?!clang-diagnostic-error\])[\w,.=+-]+\]$")
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_PLAIN_ENUM = re.compile(r"\benum(?:\s+(?!class\b|struct\b)\w+)?\s*(?::\s*\w+\s*)?\{([^}]*)\}")
_TYPES = ("struct", "class", "enum", "union", "concept")
_ENDS = ("(", "=", ";", "[", ",", ")", "]")
_NOT_NAMES = frozenset(("const", "noexcept", "override", "final", "auto", "void", "bool", "alignas", "asm", "requires",
                        "decltype", "static_assert", "operator", "class", "struct"))


def _names_of(statement):
    """The names that a declaration at namespace scope introduces."""
    if statement and statement[0].isupper() and statement[-1:] == [")"]:  # PER_CPU(Type, name)
        return [piece for piece in statement if _WORD.fullmatch(piece)][-1:]
    flat, depth = [], 0
    for piece in statement:
        depth -= piece in ")]"
        if depth == 0:
            flat.append(piece)
        depth += piece in "(["
    if flat[:1] == ["using"]:
        # What another file declares under that name is the same thing; only a second such line would hide the first.
        return flat[1:2] if "=" in flat else [f"using {flat[-1]}"]
    for position, piece in enumerate(flat):
        if piece in _TYPES:
            return [word for word in flat[position + 1:] if word not in _NOT_NAMES and _WORD.fullmatch(word)][:1]
    names, last, after_comma = [], None, True
    for piece in [*flat, ";"]:
        # `Ring ring GUARDED_BY(lock)`: a macro ends the declarator.
        if last and after_comma and (piece in _ENDS or piece.isupper()):
            names.append(last)
            after_comma = False
        after_comma |= piece == ","
        last = piece if _WORD.fullmatch(piece) and piece not in _NOT_NAMES and not piece.isupper() else None
    return names


def _is_own(statement):
    """Does a declaration outside unnamed namespaces matter to its file alone?"""
    return statement[:1] == ["static"] or (statement[:1] == ["using"] and "=" not in statement)


def declared_names(text):
    """(private, public): the names that a file declares at namespace scope. `text` is without comments and strings.
    `extern` is both: a second declaration of it in another source would be a redundant one."""
    private, public = set(_DEFINE.findall(text)), set()
    for enumerators in _PLAIN_ENUM.findall(text):
        names = [_WORD.match(each.strip()) for each in enumerators.split(",")]
        private.update(match[0] for match in names if match)
        public.update(match[0] for match in names if match)
    scopes, statement = [], []  # for each open brace: an unnamed namespace, a named one, or something else?
    for piece in _PIECE.findall(_DIRECTIVE.sub("", text)):
        if piece not in ("{", "}") and (piece != ";" or statement.count("(") != statement.count(")")):
            statement.append(piece)
            continue
        is_namespace = "namespace" in statement
        if "other" not in scopes and not is_namespace and piece != "}":
            names, foreign = _names_of(statement), "extern" in scopes or statement[:1] == ["extern"]
            own = "unnamed" in scopes or _is_own(statement)
            private.update(names if own or foreign else ())
            public.update(names if not own else ())
        if piece == "{":
            scopes.append("extern" if statement == ["extern"] else "other" if not is_namespace else
                          "unnamed" if statement[-1] == "namespace" else "named")
        elif piece == "}" and scopes:
            scopes.pop()
        statement = []
    return private, public


class _Names:
    """What a source declares, and what the headers of ours declare for it."""

    def __init__(self, tree):
        self._tree = tree
        self._known = {}

    def _own(self, path):
        if path not in self._known:
            text = self._tree.text(path)
            below = [candidate for name in INCLUDE.findall(text)
                     for candidate in (f"include/{name}", os.path.join(os.path.dirname(path), name), name)
                     if os.path.isfile(candidate)]
            self._known[path] = (*declared_names(strip_code(text)), below)
        return self._known[path]

    def of(self, path):
        """(private, all)"""
        mine, seen, to_do = self._own(path)[0], set(), [path]
        everything = set(mine)
        while to_do:
            path = to_do.pop()
            if path not in seen:
                seen.add(path)
                everything |= self._own(path)[1]
                to_do += self._own(path)[2]
        return mine, everything


def hardest_first(tree, paths):
    """The paths, those first that may share a unit with the fewest others: later, when most units are full, each would
    need one of its own. So grouped, sources take the fewest units."""
    names = _Names(tree)
    declared = {path: names.of(path) for path in paths}

    def conflicts(path):
        private, everything = declared[path]
        return sum(bool(private & other_everything or other_private & everything)
                   for other_private, other_everything in declared.values())
    return sorted(paths, key=conflicts, reverse=True)


def group(tree, paths, flags_of):
    """[[path]]: sources that may stand in one unit; the same paths give the same groups."""
    names = _Names(tree)
    groups = []  # [paths, lines, private names, all names, flags]
    alone = [path for path in paths if path in ALONE or _OPENS_ALL.search(tree.text(path))]
    for path in paths:
        if path in alone:
            continue
        flags, (private, everything), lines = flags_of(path), names.of(path), tree.text(path).count("\n")
        for entry in groups:
            fits = entry[4] == flags and entry[1] + lines <= LINES
            if fits and not entry[2] & everything and not private & entry[3]:
                break
        else:
            entry = [[], 0, set(), set(), flags]
            groups.append(entry)
        entry[0].append(path)
        entry[1] += lines
        entry[2] |= private
        entry[3] |= everything
    return [entry[0] for entry in groups] + [[path] for path in alone]


class Unit:
    """Sources one below the other in one file.

    Written out, not included: what a compiler or clang-tidy says of the main file alone, such as of unused functions,
    it says of all of them. The includes come first, as in a source that stands alone; each once, but what one source
    includes twice stays twice.
    """

    def __init__(self, tree, paths):
        self.paths = paths
        self.path = os.path.join(UNITS, paths[0].replace("/", "-"))
        includes, texts, seen = [], [], set()
        for path in paths:
            source, own = tree.text(path), set()
            for match in _ANY_INCLUDE.finditer(source):
                if match[1] not in seen or match[1] in own:
                    includes.append(match[0].strip())
                own.add(match[1])
            seen |= own
            texts.append(_ANY_INCLUDE.sub("", source))
        self._write("\n".join([*includes, *texts]))
        self._includes = len(includes)  # the unit's last line of them
        self._ends = []  # the unit's line behind each source
        line = len(includes) + 1
        for text in texts:
            line += text.count("\n") + 1
            self._ends.append(line)

    def sources_in(self, complaints):
        """The sources that a compiler's complaints about the unit are about. All of them where one is about something
        else, or is an error of the language: behind one the compiler leaves out the analyses that others need."""
        found = set()
        for place, line, text in _COMPLAINT.findall(complaints):
            if os.path.basename(place) != os.path.basename(self.path) or not _NAMES_A_CHECK.search(text):
                return self.paths
            index = bisect.bisect_right(self._ends, int(line))
            if int(line) <= self._includes or index == len(self.paths):
                return self.paths
            found.add(self.paths[index])
        return sorted(found) or self.paths

    def _write(self, text):
        os.makedirs(UNITS, exist_ok=True)
        with open(f"{self.path}.{os.getpid()}", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.replace(f"{self.path}.{os.getpid()}", self.path)

    def flags(self):
        """So that a source finds the headers beside it."""
        return [word for folder in sorted({os.path.dirname(path) for path in self.paths})
                for word in ("-iquote", folder)]

"""Who calls whom under src, by what the compiler made of it: no file calls up, and no two files call each
other in a circle.

The objects of the build are read with nm(1). With --show it prints the circles, and the calls that make
them.
"""

import collections
import glob
import os
import subprocess
import sys

SOURCE = os.environ.get("top_srcdir", ".")
BUILD = os.environ.get("top_builddir", "build")
# Each floor, and what it stands on.
FLOORS = {
    "base": (),
    "net": ("base",),
    "core": ("base", "net"),
    "serve": ("base", "net", "core"),
    "daemon": ("base", "net", "core", "serve"),
    "ctl": ("base", "net"),
    "load": ("base", "net"),
}


def symbols(objects):
    """{file: (functions it defines, names it lacks)}; a file is FLOOR/NAME, without .c."""
    out = subprocess.run(["nm", "--print-file-name", "--format=posix", "--extern-only", *objects],
                         text=True, capture_output=True, check=True).stdout
    found = {name_of(path): (set(), set()) for path in objects}
    for line in out.splitlines():
        path, rest = line.split(": ", 1)
        symbol, kind = rest.split()[:2]
        if kind in "TW":
            found[name_of(path)][0].add(symbol)
        elif kind == "U":
            found[name_of(path)][1].add(symbol)
    return found


def name_of(path):
    return os.path.relpath(os.path.splitext(path)[0], os.path.join(BUILD, "src"))


def calls():
    """{file: {file it calls: names}}."""
    objects = sorted(glob.glob(os.path.join(BUILD, "src", "*", "*.o")))
    source = os.path.join(SOURCE, "src")
    files = symbols([path for path in objects if os.path.exists(os.path.join(source, name_of(path) + ".c"))])
    homes = collections.defaultdict(list)
    for name, (defined, _) in files.items():
        for symbol in defined:
            homes[symbol].append(name)
    graph = {name: collections.defaultdict(set) for name in files}
    for name, (_, lacks) in files.items():
        for symbol in lacks & homes.keys():
            graph[name][nearest(name, homes[symbol])].add(symbol)
    return graph


def floor_of(name):
    return name.split("/")[0]


def is_below(name, other):
    return floor_of(other) == floor_of(name) or floor_of(other) in FLOORS[floor_of(name)]


def nearest(name, homes):
    """Programs of their own, portctl and portload, may have a function of the same name."""
    return next((home for home in homes if is_below(name, home)), homes[0])


def circles(graph):
    """The strongly connected components of more than one file: Tarjan, without recursion."""
    index, low, stack, on, found = {}, {}, [], set(), []
    for root in graph:
        if root in index:
            continue
        work = [(root, iter(graph[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            name, rest = work[-1]
            for other in rest:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on.add(other)
                    work.append((other, iter(graph[other])))
                    break
                if other in on:
                    low[name] = min(low[name], index[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    at = stack.index(name)
                    if len(stack) - at > 1:
                        found.append(sorted(stack[at:]))
                    on.difference_update(stack[at:])
                    del stack[at:]
    return sorted(found)


def upward(graph):
    for name, callees in sorted(graph.items()):
        for callee in sorted(callees):
            if not is_below(name, callee):
                yield f"src/{name}.c calls {', '.join(sorted(callees[callee]))} of src/{callee}.c"


def show(graph):
    for members in circles(graph):
        print(" ".join(members))
        for name in members:
            for callee in sorted(set(graph[name]) & set(members)):
                print(f"    {name} -> {callee}: {' '.join(sorted(graph[name][callee]))}")


def report(number, what, wrong):
    for line in wrong:
        print(f"# {line}")
    print(f"{'not ok' if wrong else 'ok'} {number} - {what}")
    return bool(wrong)


def main():
    graph = calls()
    if sys.argv[1:] == ["--show"]:
        show(graph)
        return 0
    print("1..3")
    few = [] if len(graph) > 100 else [f"there are {len(graph)} of them in {BUILD}"]
    bad = report(1, "there are objects to look at", few)
    bad |= report(2, "no call points up", list(upward(graph)))
    bad |= report(3, "no circle; --show tells the calls", [" ".join(members) for members in circles(graph)])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

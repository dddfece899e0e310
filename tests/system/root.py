"""What a container of the system tests is made of: a small Debian root, and portd built as a
distributor builds it.

Both lie in the build directory and are kept between runs. The root is made anew when its recipe
changes, portd when its sources do. A lock lets scripts that run at the same time make them once.
As a program, this makes the root and says where it is.
"""

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.abspath(os.environ.get("top_srcdir", os.path.join(HERE, "..", "..")))
BUILD = os.path.abspath(os.environ.get("top_builddir", os.path.join(SOURCE, "build")))
HOME = os.path.join(BUILD, "tests", "system")
PACKAGE = os.path.join(HOME, "package")

PROGRAMS = ("mmdebstrap", "systemd-nspawn", "unshare", "nsenter", "mount", "setpriv",
            "apt-config", "make")
PACKAGES = ("systemd", "systemd-sysv", "dbus", "libinih1", "libsystemd0", "bash-completion",
            "mandoc")
# What only makes the boot slower, and what would act on its own in the middle of a test.
MASKED = ("getty.target", "systemd-logind.service", "systemd-update-utmp.service",
          "systemd-update-utmp-runlevel.service", "systemd-journal-flush.service",
          "systemd-user-sessions.service", "dev-hugepages.mount", "dev-mqueue.mount",
          "systemd-random-seed.service", "timers.target")
# What mmdebstrap runs, hundreds of times, are the system's own programs.
SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# As a distributor has it: the paths in the units come from here.
CONFIGURE = ("--prefix=/usr", "--sysconfdir=/etc", "--localstatedir=/var")


LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x00020000


class Missing(Exception):
    """This machine has no way to make a container; the reason is its text."""


class Broken(Exception):
    """It has, and something went wrong; the text says what."""


def find_missing():
    """Raises Missing if a container cannot be made here."""
    if os.geteuid() != 0:
        raise Missing("needs root, for a container")
    lacking = [program for program in PROGRAMS if not shutil.which(program)]
    if lacking:
        raise Missing("not installed: " + " ".join(lacking))
    with open("/proc/filesystems") as file:
        if "\toverlay\n" not in file.read():
            raise Missing("this kernel has no overlay file system loaded")


def libc(name, *arguments):
    """A function of libc, by name; OSError if it fails."""
    if getattr(LIBC, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def enter_own_mounts():
    """From here on, what this process mounts is seen by it and its children only, and is gone with
    the last of them."""
    try:
        libc("unshare", CLONE_NEWNS)
        run(["mount", "--make-rprivate", "/"], "mount")
    except (OSError, Broken) as failed:
        raise Missing(f"no mount namespace: {failed}") from None


def run(command, what, path=None, **options):
    """Runs it; its output is shown only when it fails. path: another $PATH."""
    env = {name: value for name, value in os.environ.items()
           if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "DESTDIR")}
    env["PATH"] = path or env.get("PATH", SYSTEM_PATH)
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", env=env,
                            **options)
    if result.returncode != 0:
        tail = "\n".join(result.stdout.splitlines()[-40:])
        raise Broken(f"{what} failed:\n{tail}")
    return result.stdout


@contextlib.contextmanager
def lock():
    """One script at a time."""
    os.makedirs(HOME, exist_ok=True)
    with open(os.path.join(HOME, "lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# The root.

def codename():
    with open("/etc/os-release") as file:
        found = re.search(r'^VERSION_CODENAME="?([a-z]+)"?$', file.read(), re.M)
    if not found:
        raise Missing("/etc/os-release names no release of Debian")
    return found[1]


def source_files(release):
    """Those of this machine's apt sources that have the release itself."""
    files = ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list")),
             *sorted(glob.glob("/etc/apt/sources.list.d/*.sources"))]
    wanted = re.compile(rf"^[^#\n]*\s{release}(-updates|-security)?(\s|$)", re.M)
    chosen = []
    for path in files:
        try:
            with open(path) as file:
                if wanted.search(file.read()):
                    chosen.append(path)
        except FileNotFoundError:
            pass
    if not chosen:
        raise Missing(f"no apt source on this machine has {release}")
    return chosen


def apt_options():
    """How this machine's apt reaches its sources: proxies, certificates, logins, leniency."""
    dump = run(["apt-config", "dump", "--no-empty"], "apt-config").splitlines()
    reach = re.compile(r"Acquire::([a-z:]+::(Proxy|Verify|Ca|Ssl|Timeout)|Retries|Check-)", re.I)
    return "\n".join([line for line in dump if reach.match(line)] + [
        'Dir::Etc::netrc "/etc/apt/auth.conf";', 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";', ""])


def recipe(release, sources):
    texts = [release, os.uname().machine, *PACKAGES, *MASKED]
    for path in sources:
        with open(path) as file:
            texts.append(file.read())
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def make_root():
    """The path of the root, which is made if there is none of this recipe. Under lock()."""
    release = codename()
    sources = source_files(release)
    root = os.path.join(HOME, "root-" + recipe(release, sources))
    if os.path.isdir(root):
        return root
    # Also what a script left half-made.
    for old in glob.glob(os.path.join(HOME, "root-*")):
        run(["rm", "-rf", "--one-file-system", old], "rm")
    began = time.monotonic()
    print(f"# making a Debian root in {root}", file=sys.stderr, flush=True)
    aside = root + ".new"
    with tempfile.NamedTemporaryFile("w", prefix="apt-", dir=HOME) as apt:
        apt.write(apt_options())
        apt.flush()
        mask = " ".join(f'"$1/etc/systemd/system/{unit}"' for unit in MASKED)
        try:
            run(["mmdebstrap", "--mode=root", "--variant=essential",
                 "--include=" + ",".join(PACKAGES), "--aptopt=" + apt.name,
                 f'--customize-hook=for unit in {mask}; do ln -sf /dev/null "$unit"; done',
                 '--customize-hook=ln -sf /lib/systemd/system/multi-user.target '
                 '"$1/etc/systemd/system/default.target"',
                 release, aside, *sources], "mmdebstrap", path=SYSTEM_PATH)
        except Broken as failed:
            raise Missing(failed) from None  # no network, most likely
    # What the sources need stays on this machine.
    shutil.rmtree(os.path.join(aside, "etc", "apt"))
    os.rename(aside, root)
    print(f"# made in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return root


# portd.

def compiles_alike(*builds):
    """Whether objects of these build directories are the same: the paths of an installation are not in
    them, so the flags decide."""
    flags = re.compile(r"^(?:CC|CFLAGS|CPPFLAGS|HARDEN_CFLAGS|SAN_CFLAGS) =.*$", re.M)
    texts = []
    for build in builds:
        with open(os.path.join(build, "Makefile")) as file:
            texts.append(flags.findall(file.read()))
    return all(text == texts[0] for text in texts)


def take_cache():
    """What configure has found out here need not be found out once more."""
    with contextlib.suppress(FileNotFoundError), open(os.path.join(BUILD, "config.cache")) as old, \
            open(os.path.join(PACKAGE, "config.cache"), "w") as new:
        new.writelines(line for line in old if not line.startswith("ac_cv_env_"))


def take_objects():
    """What this build directory has compiled since is not compiled once more for the package."""
    for pattern in ("src/**/.dirstamp", "src/**/*.Po", "src/**/*.o", "lib*.a"):
        paths = glob.glob(pattern, root_dir=BUILD, recursive=True, include_hidden=True)
        for path in paths:
            old, new = os.path.join(BUILD, path), os.path.join(PACKAGE, path)
            if not os.path.exists(new) or os.path.getmtime(new) < os.path.getmtime(old):
                os.makedirs(os.path.dirname(new), exist_ok=True)
                shutil.copy(old, new)


def make_package():
    """Builds portd with a distributor's directories in PACKAGE. Under lock()."""
    if not os.path.exists(os.path.join(PACKAGE, "config.status")):
        os.makedirs(PACKAGE, exist_ok=True)
        take_cache()
        run([os.path.join(SOURCE, "configure"), "-q", "--config-cache", *CONFIGURE], "configure", cwd=PACKAGE)
    if compiles_alike(BUILD, PACKAGE):
        take_objects()
    run(["make", "-s", "-C", PACKAGE, f"-j{os.cpu_count()}", "all"], "make")


def install(destination):
    """make install; what it prints."""
    with lock():
        make_package()
        return run(["make", "-C", PACKAGE, "install", "DESTDIR=" + destination], "make install")


def uninstall(destination):
    with lock():
        return run(["make", "-C", PACKAGE, "uninstall", "DESTDIR=" + destination], "make uninstall")


def main():
    try:
        find_missing()
        enter_own_mounts()
        with lock():
            print(make_root())
    except (Missing, Broken) as reason:
        sys.exit(f"{sys.argv[0]}: {reason}")


if __name__ == "__main__":
    main()

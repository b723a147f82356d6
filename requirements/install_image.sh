#!/bin/sh
# The install steps of the image, one verb each, so that a test can run them in a clean environment without Docker.
#   deps VENV       every pin but torch and its CUDA wheels, which the base image has; hashes are required
#   packages VENV   the three packages of this repository, in place
# The environment sees the base's site-packages: torch comes from there, and whatever else is pinned here shadows the base's copy.
set -eu
verb=$1 venv=$2
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT

install() {
  python3 -m pip --python "$venv/bin/python" --disable-pip-version-check install --quiet --no-cache-dir --no-deps "$@"
}

case $verb in
  deps)
    # --without-pip: the base has no ensurepip; its own pip installs into the environment with --python.
    test -x "$venv/bin/python" || python3 -m venv --system-site-packages --without-pip "$venv"
    python3 requirements/without_base.py requirements/worker.txt >"$pins"
    install --require-hashes -r "$pins"
    ;;
  packages)
    install --require-hashes -r requirements/build.txt
    install --no-build-isolation -e client -e processors -e gpu-worker
    ;;
  *)
    echo "install_image.sh: verb must be deps or packages" >&2
    exit 2
    ;;
esac

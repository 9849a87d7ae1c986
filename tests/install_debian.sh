#!/usr/bin/env bash
# What the tests of places and pages need of Debian 12, where it is missing: tests/install_debian.sh (as root)
set -euo pipefail
packages=(debootstrap buildah gettext-base slurm-wlm munge docker-registry chromium fonts-noto-cjk)
if ! dpkg --status "${packages[@]}" >/dev/null 2>&1; then
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${packages[@]}" >/dev/null
fi
"$(dirname "$0")/../containers/install_apptainer.sh"

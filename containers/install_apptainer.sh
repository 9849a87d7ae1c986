#!/usr/bin/env bash
# Install Apptainer on Debian 12, which packages none: containers/install_apptainer.sh (as root)
#
# Elsewhere take your distribution's package. Debian's unstable one wants a newer glibc than Debian 12 has, so the two
# programs get that of Debian 13 for themselves, in /opt/apptainer-glibc; nothing else on the machine uses it.
set -euo pipefail
if command -v apptainer >/dev/null; then
    apptainer --version
    exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq update
apt-get -qq install --yes --no-install-recommends patchelf uidmap squashfs-tools squashfuse fuse2fs fuse-overlayfs \
    libseccomp2 libsqlite3-0 libsubid4 ca-certificates >/dev/null
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -1)
download() { # SUITE PACKAGE: one package, with apt's own check of signatures, without a trace in the machine's sources
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $1 main" > "$1/sources.list"
    local options=(-o "Dir::Etc::SourceList=$work/$1/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$work/$1/lists" -o "Dir::Cache=$work/$1/cache" -o APT::Sandbox::User=root)
    apt-get -qq "${options[@]}" update
    apt-get -qq "${options[@]}" download "$2"
}
download sid apptainer
download trixie libc6
glibc=/opt/apptainer-glibc
dpkg --extract libc6_*.deb libc6
mkdir -p "$glibc"
cp -a libc6/usr/lib/x86_64-linux-gnu/. "$glibc/"
dpkg --extract apptainer_*.deb /
for program in /usr/bin/apptainer /usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
    patchelf --set-interpreter "$glibc/ld-linux-x86-64.so.2" \
        --set-rpath "$glibc:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" "$program"
done
apptainer --version

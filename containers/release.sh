#!/usr/bin/env bash
# Build, push and enter the images: containers/release.sh REGISTRY/NAMESPACE [NAME ...]
#
# Out: the images in the registry, tagged with this commit, and their references by digest in containers/images.yaml, to be
# committed. Needs buildah, logged in there; BASE_IMAGE, PYTHON, TORCH, BUILDAH, BUDFLAGS as in containers/build.sh, and
# PUSHFLAGS for `buildah push`. The first time it enters torchaudio's hash, which PyTorch's index states, into the lock.
set -euo pipefail
cd "$(dirname "$0")/.."
registry=${1:?usage: containers/release.sh REGISTRY/NAMESPACE [NAME ...]}
shift
read -ra buildah <<<"${BUILDAH:-buildah}"
read -ra flags <<<"${BUDFLAGS:-}"
read -ra pushflags <<<"${PUSHFLAGS:-}"
if [ $# = 0 ]; then set -- prepare train evaluate; fi
if [ -n "$(git status --porcelain envs containers)" ]; then
    echo "release.sh: commit what changed in envs/ and containers/ first, so that the tag says what is in the image." >&2
    exit 1
fi
lock=envs/torch-cu118.lock.txt
wheel=$(sed -nE 's|^torchaudio @ (https[^ ]*)$|\1|p' $lock)
if [ -n "$wheel" ] && [[ " $* " == *" train "* ]] && [ "${TORCH:-torch-cu118}" = torch-cu118 ]; then
    page=$(curl --fail --silent --show-error --location "${wheel%/*}/torchaudio/")
    hash=$(grep -oE "${wheel##*/}#sha256=[0-9a-f]{64}" <<<"$page" | head -1 | cut -d= -f2)
    sed -i "s|^torchaudio @ .*|& \\\\\n    --hash=sha256:$hash|" $lock
    echo "release.sh: entered torchaudio's hash into $lock; look at it, commit it, and start again." >&2
    exit 1
fi
revision=$(git rev-parse --short=12 HEAD)
arguments=(--build-arg "REVISION=$revision")
for key in BASE_IMAGE PYTHON TORCH; do
    if [ -n "${!key:-}" ]; then arguments+=(--build-arg "$key=${!key}"); fi
done
digestfile=$(mktemp)
for name in "$@"; do
    tag=$registry/$name:$revision
    "${buildah[@]}" bud "${flags[@]}" "${arguments[@]}" --file "containers/$name/Dockerfile" --tag "$tag" .
    "${buildah[@]}" push "${pushflags[@]}" --digestfile "$digestfile" "$tag" "docker://$tag"
    sed -i "s|^$name: .*|$name: docker://$registry/$name@$(<"$digestfile")|" containers/images.yaml
done
rm "$digestfile"
cat containers/images.yaml

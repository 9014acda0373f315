#!/usr/bin/env bash
# Builds the image without Docker and without a registry of images, and tests what came out: on Debian, as root.
#
#   deploy/image/build.sh [--keep]
#
# Every COPY and RUN of deploy/runpod/Dockerfile runs, with buildah, on a base that debootstrap makes in place of the public
# one; the kernels are compiled inside. The tests of tests/image/ then start it: as its user, on a read-only root, for a job
# at both doors. Needs buildah, debootstrap and some 15 GB; .venv as `make set-up` makes it; Debian's and PyPI's servers.
#
# Set in the environment
#   IMAGE_STORE   where images are kept while it runs; default: a folder in /var/tmp, which goes when it ends (not with --keep)
#   TORCH_CUDA    cu130 here, as PyPI has these wheels
#   CAPABILITIES  the GPU generations that kernels are compiled for; 86 here
#   CODEC_ID      the codec to bake in; none here
#   IMAGE_LICENSES  a folder that gets a copy of the image's /licenses
set -euo pipefail
cd "$(dirname "$0")/../.."

{ # read whole before it runs, so that the file may change meanwhile
keep=
if [ "${1:-}" = --keep ]; then keep=yes; fi
store="${IMAGE_STORE:-/var/tmp/higgs-audio-image}"
base=localhost/higgs-audio-base image=localhost/higgs-audio

fail() {
  echo "$1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || fail "Root is needed: buildah and debootstrap change the root folder and mount."
[ "$(uname -m)" = x86_64 ] || fail "The image is for x86_64; this machine is $(uname -m)."
for program in buildah debootstrap unshare; do
  command -v "$program" >/dev/null || fail "$program is missing: apt-get install buildah debootstrap util-linux"
done
[ -x .venv/bin/python ] || fail ".venv is missing: make set-up"

mkdir -p "$store"
images() {
  local command="$1"
  shift
  # overlayfs shares what layers have in common. Where it cannot be mounted: STORAGE_DRIVER=vfs, with three times the disk.
  buildah --root "$store/images" --runroot "$store/run" --storage-driver "${STORAGE_DRIVER:-overlay}" "$command" "$@"
}
clean_up() {
  images umount --all >/dev/null 2>&1 || true
  images rm --all >/dev/null 2>&1 || true
  rm -rf "$store/base" "$store/build"
  if [ -z "$keep" ]; then
    images rmi --all --force >/dev/null 2>&1 || true
    rm -rf "$store"
  fi
}
trap clean_up EXIT
mkdir -p "$store/build"

# This machine's own way to the package servers, where it has one, for the build alone: of a mount nothing gets into a layer.
apt_mounts=() pip_mounts=()
for path in /etc/apt/apt.conf.d/*; do
  dpkg --search "$path" >/dev/null 2>&1 || apt_mounts+=(--volume "$path:$path:ro")
done
for path in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
  if [ -e "$path" ]; then pip_mounts+=(--volume "$path:$path:ro"); fi
done

step() { echo "[$(date +%H:%M:%S)] $1"; }

if ! images inspect --type image "$base" >/dev/null 2>&1; then
  step "base: Debian 12 with Python 3.11"
  rm -rf "$store/base"
  # python3-dev: Python.h for Triton's launchers, which the public base has.
  debootstrap --variant=minbase --include=python3,python3-dev,python3-pip,python3-venv,ca-certificates \
    bookworm "$store/base" >"$store/build/debootstrap.log" 2>&1 || fail "$(tail -5 "$store/build/debootstrap.log")"
  for suite in "debian bookworm bookworm-updates" "debian-security bookworm-security"; do
    printf 'Types: deb\nURIs: http://deb.debian.org/%s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' \
      "${suite%% *}" "${suite#* }" /usr/share/keyrings/debian-archive-keyring.gpg
  done >"$store/base/etc/apt/sources.list.d/debian.sources"
  rm -f "$store/base/etc/apt/sources.list"
  container="$(images from scratch)"
  images add --quiet "$container" "$store/base" / >/dev/null
  # As in the public base: security updates, `python`, no documentation but the terms, no bytecode.
  images run --isolation chroot --network host "${apt_mounts[@]}" "$container" -- sh -ec '
    printf "path-exclude=%s\n" "/usr/share/doc/*" "/usr/share/man/*" "/usr/share/locale/*" >/etc/dpkg/dpkg.cfg.d/docker
    echo "path-include=/usr/share/doc/*/copyright" >>/etc/dpkg/dpkg.cfg.d/docker
    apt-get update -qq
    apt-get upgrade -y -qq >/dev/null 2>&1
    find /usr/share/doc -type f ! -name copyright -delete
    rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /usr/share/man/* /usr/share/locale/*
    rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
    find /usr/lib/python3* -name __pycache__ -prune -exec rm -rf {} +
    ln -sf python3 /usr/bin/python'
  images commit --quiet --rm "$container" "$base" >/dev/null
  rm -rf "$store/base"
fi

step "image: every instruction of deploy/runpod/Dockerfile"
sed "s|^FROM python:.*|FROM $base|" deploy/runpod/Dockerfile >"$store/build/Dockerfile"
# A token that must not be found in any layer afterwards.
token="hf_$(od -An -N17 -tx1 /dev/urandom | tr -d ' \n')"
printf %s "$token" >"$store/build/token"
images build --file "$store/build/Dockerfile" --format docker --isolation chroot --network host --layers=false \
  --pull-never --tag "$image" "${apt_mounts[@]}" "${pip_mounts[@]}" --secret "id=hf_token,src=$store/build/token" \
  --build-arg "TORCH_CUDA=${TORCH_CUDA:-cu130}" --build-arg "CODEC_ID=${CODEC_ID:-}" \
  --build-arg "GPU_CAPABILITIES=${CAPABILITIES:-86}" \
  --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)" .

step "size"
images images --format '{{.Name}} {{.Size}}'

step "tests of what came out"
container="$(images from --pull-never "$image")"
rootfs="$(images mount "$container")"
images inspect --type image "$image" >"$store/build/image.json"
if [ -n "${IMAGE_LICENSES:-}" ]; then cp -r "$rootfs/licenses" "$IMAGE_LICENSES"; fi
# The pieces that a registry would keep, each a folder: what one adds, a later one that deletes it does not take away.
IMAGE_ROOTFS="$rootfs" IMAGE_CONFIG="$store/build/image.json" IMAGE_STORE="$store/images" IMAGE_TOKEN="$token" \
  IMAGE_CAPABILITIES="${CAPABILITIES:-86}" \
  .venv/bin/python -m pytest -p no:cacheprovider -ra tests/image
step "done"
}

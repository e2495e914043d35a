# shellcheck shell=bash
# Installs what is missing, from the distribution's own packages. Sourced by tools/demo and tools/test.
# Debian 12, Ubuntu 24.04 and later; elsewhere it says what is needed and goes on if meson finds it.

# Boost must be 1.81 or newer. Debian 12's libboost-dev is 1.74, with 1.81 beside it under a name of its own.
boost_package() {
  if apt-cache show libboost1.81-dev >/dev/null 2>&1; then echo libboost1.81-dev; else echo libboost-dev; fi
}

is_installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

boost_is_installed() {
  local package
  for package in $(dpkg-query -W -f '${Package}\n' 'libboost1.8*-dev' 'libboost1.9*-dev' 2>/dev/null); do
    [[ $package =~ ^libboost1\.[0-9]+-dev$ ]] && is_installed "$package" && return 0
  done
  return 1
}

# install_missing PACKAGE...   `boost` stands for whatever package has Boost's headers.
install_missing() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian or Ubuntu. Needed are: a C++20 compiler, meson, and the development files of: $*" >&2
    return 0
  fi
  local package missing=()
  for package in "$@"; do
    if [ "$package" = boost ]; then
      boost_is_installed || missing+=(boost)
    else
      is_installed "$package" || missing+=("$package")
    fi
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
      echo "These packages are missing: ${missing[*]}. Run this once as root, or install them." >&2
      return 8
    fi
    as_root=(sudo)
  fi
  echo "==> installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! "${as_root[@]}" apt-get update -qq >"$log" 2>&1; then cat "$log" >&2; fi
  missing=("${missing[@]/#boost/$(boost_package)}")
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    cat "$log" >&2
    echo "Installing ${missing[*]} failed; see above." >&2
    rm -f "$log"
    return 8
  fi
  rm -f "$log"
}

to_build=(g++ meson ninja-build pkg-config boost libxxhash-dev libfmt-dev libcli11-dev nlohmann-json3-dev)
to_test=(catch2 librapidcheck-dev libcereal-dev python3-numpy)

# configure DIRECTORY MESON-OPTION...   Makes or updates a build directory.
configure() {
  local directory=$1
  shift
  mkdir -p build
  if [ -f "$directory/build.ninja" ]; then
    meson configure "$directory" "$@" >"$directory.log" 2>&1 || { cat "$directory.log" >&2; return 8; }
  else
    rm -rf "$directory"
    meson setup "$directory" "$@" >"$directory.log" 2>&1 || { cat "$directory.log" >&2; return 8; }
  fi
}

# build DIRECTORY [TARGET...]   Says nothing unless it fails.
build() {
  ninja -C "$@" >"$1.log" 2>&1 || { grep -v '^\[' "$1.log" >&2; echo "building $1 failed, see above" >&2; return 8; }
}

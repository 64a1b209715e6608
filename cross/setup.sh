#!/usr/bin/env bash
# Installs what Sluice is built and tested with, on a Debian 12 that has nothing: no cargo, no compiler.
#
#   cross/setup.sh build   compilers for the agent and the eBPF programs (the default)
#   cross/setup.sh demo    build + the programs of the demo router's clients and servers; then builds and runs it
#   cross/setup.sh test    demo + clippy, rustfmt, shellcheck and the emulators and kernels of the test machines
#   cross/setup.sh cross   build + zig and cargo-zigbuild for aarch64, mips and mipsel
#
# Several words may be given; what follows `demo` goes to the demo (--keep, --help). Whatever is there already is
# left alone, so a second run only looks.
# Packages come from Debian's archive; bpf-linker, cargo-zigbuild and zig go into a cache directory of
# the calling user (${XDG_CACHE_HOME:-$HOME/.cache}/sluice/tools), nothing else in the file system changes.
set -euo pipefail

# Versions leave Debian's archive when a newer one arrives: the series is fixed, not the version.
readonly RUST_SERIES=1.96
readonly LLVM_MAJOR=22
readonly BPF_LINKER=0.13.0
readonly CARGO_ZIGBUILD=0.24.1
# Not 0.16 or later: their libc for mips does not link.
readonly ZIGLANG=0.15.2

readonly TOOLS="${XDG_CACHE_HOME:-${HOME:?}/.cache}/sluice/tools"

COMMON=(ca-certificates gcc libc6-dev)
RUST=(rustc-web cargo-web)
RUST_LINT=(rust-web-clippy rustfmt-web)
RUST_EBPF=(rust-web-src libstd-rust-web-dev-bpf rust-web-llvm)
LLVM_STRIP=("llvm-$LLVM_MAJOR")
LLVM_LINK=("llvm-$LLVM_MAJOR-dev" "libpolly-$LLVM_MAJOR-dev" libzstd-dev zlib1g-dev libffi-dev g++)
# dnsmasq-base is the program without the service.
PEERS=(
    nftables iproute2 iptables conntrack netbase procps kmod busybox-static
    dnsmasq-base nginx-light openssl curl iperf3 hping3 ncat tcpdump ethtool bpftool
)
TESTS=(git tshark qemu-system-x86 qemu-system-mips qemu-user-static shellcheck xz-utils dpkg-dev wireguard-tools signify-openbsd prometheus lua5.1)
# Whose first packets are read: a browser, SSH, a library.
CLIENTS=(chromium openssh-client python3)
# A router's kernel is built for two machines.
KERNEL=(make flex bison bc libelf-dev gcc-mips-linux-gnu)
CROSS=(python3 python3-venv)

started=$SECONDS
work=$(mktemp -d)
guard=

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

finish() {
    if [ -n "$guard" ]; then as_root rm -f "$guard"; fi
    rm -rf "$work"
}
trap finish EXIT

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs a command with its output in a log that is shown only when it fails.
logged() {
    local log=$work/log
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "failed: $*"
    fi
}

is_installed() {
    case "$(dpkg-query -W -f='${db:Status-Abbrev}${Version}' "$1" 2>/dev/null)" in
    "ii $RUST_SERIES."*) return 0 ;;
    "ii "*) ! is_rust "$1" ;;
    *) return 1 ;;
    esac
}

# The rustc-web family has to be of one series, and the main archive still has an older one of the same name
# without the BPF package.
is_rust() {
    case "$1" in
    rustc-web | cargo-web | rust-web-clippy | rustfmt-web | rust-web-src | libstd-rust-web-dev-bpf | rust-web-llvm) ;;
    *) return 1 ;;
    esac
}

# --- which compilers -------------------------------------------------------------------------------

# A rustup toolchain that can build for the BPF target: with the source of `core`, and a bpf-linker on PATH.
# RUSTC_BOOTSTRAP opens the unstable options, so a stable one will do. xtask looks the same way
# (cross/xtask/src/toolchain.rs).
own_ebpf_toolchain() {
    local toolchain sysroot
    command -v rustup >/dev/null && command -v bpf-linker >/dev/null || return 1
    while read -r toolchain _; do
        sysroot=$(rustup run "$toolchain" rustc --print sysroot 2>/dev/null) || continue
        if [ -f "$sysroot/lib/rustlib/src/rust/library/core/Cargo.toml" ]; then
            printf '%s\n' "$toolchain"
            return 0
        fi
    done < <(rustup toolchain list 2>/dev/null)
    return 1
}

# A cargo that is not Debian's own.
foreign_cargo() {
    local cargo
    cargo=$(command -v cargo) || return 1
    [ "$cargo" != /usr/bin/cargo ] && "$cargo" --version >/dev/null 2>&1
}

# --- Debian packages -------------------------------------------------------------------------------

# The version to ask apt for, as `=VERSION`, where it matters.
version_of() {
    local version
    is_rust "$1" || return 0
    version=$(apt-cache madison "$1" | awk -v series="$RUST_SERIES." '
        BEGIN { FS = " *[|] *" } index($2, series) == 1 { print $2; exit }')
    [ -n "$version" ] || die "$1 $RUST_SERIES is not in apt's lists: is bookworm-security among the sources?"
    printf '=%s' "$version"
}

install_packages() {
    local package asked=() missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        note "all $# packages are installed"
        return
    fi
    note "missing: ${missing[*]}"
    command -v apt-get >/dev/null || die "no apt-get: this script knows Debian 12; see cross/README.md for what is needed"
    note "apt-get update"
    logged as_root apt-get -q update
    for package in "${missing[@]}"; do
        asked+=("$package$(version_of "$package")")
    done
    # Test peers are run by the tests themselves, in namespaces: their services must not start.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        guard=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$work/policy"
        as_root install -m 0755 "$work/policy" "$guard"
    fi
    local had_nginx=0
    if is_installed nginx-common; then had_nginx=1; fi
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends "${asked[@]}" >"$work/apt" 2>&1 &
    local apt=$!
    follow_apt "$apt"
    if ! wait "$apt"; then
        tail -n 40 "$work/apt" >&2
        die "apt-get install failed"
    fi
    if [ -n "$guard" ]; then
        as_root rm -f "$guard"
        guard=
    fi
    # Nor at the next boot.
    if [ "$had_nginx" -eq 0 ] && is_installed nginx-common && command -v systemctl >/dev/null; then
        as_root systemctl disable nginx.service >/dev/null 2>&1 || true
    fi
}

# Shows once in a while how far a running apt-get is.
follow_apt() {
    local line last=
    while kill -0 "$1" 2>/dev/null; do
        line=$(awk '
            /newly installed/ { total = $3 }
            /^Need to get/ { need = $4 " " $5 }
            /^Get:/ { got++ }
            /^Unpacking/ { unpacked++ }
            /^Setting up/ { done++ }
            END {
                if (done) printf "set up %d of %d", done, total
                else if (unpacked) printf "unpacked %d of %d", unpacked, total
                else if (got) printf "downloading %s: %d of %d packages", need, got, total
            }' "$work/apt" 2>/dev/null) || true
        if [ -n "$line" ] && [ "$line" != "$last" ]; then
            note "$line"
            last=$line
        fi
        sleep 2
    done
}

# --- tools from crates.io and PyPI -----------------------------------------------------------------

# `cargo install` into the cache, unless that version is there.
#   install_crate NAME VERSION BINARY [cargo arguments …]
install_crate() {
    local name=$1 version=$2 binary=$3
    shift 3
    if [ "$("$TOOLS/bin/$binary" --version 2>/dev/null | awk '{ print $NF }')" = "$version" ]; then
        note "$name $version is in $TOOLS/bin"
        return
    fi
    note "cargo install $name $version (about a minute)"
    logged cargo install --quiet --locked --root "$TOOLS" --target-dir "$work/target" --version "$version" "$name" "$@"
}

setup_bpf_linker() {
    local toolchain
    if toolchain=$(own_ebpf_toolchain); then
        note "eBPF: rustup's $toolchain with its own source, $(bpf-linker --version) from PATH"
        return
    fi
    note "eBPF: Debian's $(/usr/bin/rustc --version | cut -d ' ' -f 1,2)"
    # Debian's pair, not rustup's: LLVM is linked from Debian's library directory.
    PATH="/usr/bin:$PATH" RUSTFLAGS="-L/usr/lib/llvm-$LLVM_MAJOR/lib" LLVM_PREFIX="/usr/lib/llvm-$LLVM_MAJOR" \
        install_crate bpf-linker "$BPF_LINKER" bpf-linker --no-default-features --features "llvm-$LLVM_MAJOR"
}

setup_zig() {
    install_crate cargo-zigbuild "$CARGO_ZIGBUILD" cargo-zigbuild
    local venv=$TOOLS/zig
    if [ "$("$venv/bin/python" -m ziglang version 2>/dev/null)" = "$ZIGLANG" ]; then
        note "zig $ZIGLANG is in $venv"
        return
    fi
    note "zig $ZIGLANG from PyPI"
    logged /usr/bin/python3 -m venv --clear "$venv"
    logged "$venv/bin/pip" --quiet --disable-pip-version-check install "ziglang==$ZIGLANG"
    # One file to call, for CARGO_ZIGBUILD_ZIG_PATH.
    ln -sf "$("$venv/bin/python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')" "$venv/bin/zig"
}

# --- main ------------------------------------------------------------------------------------------

want_peers=0 want_tests=0 want_cross=0 run_demo=0
[ $# -gt 0 ] || set -- build
while [ $# -gt 0 ]; do
    word=$1
    shift
    case "$word" in
    build) ;;
    demo)
        want_peers=1 run_demo=1
        break
        ;;
    test) want_peers=1 want_tests=1 ;;
    cross) want_cross=1 ;;
    -h | --help)
        sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) die "unknown word '$word': build, demo, test or cross" ;;
    esac
done
[ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null || die "must run as root (or with sudo installed) to install packages"

packages=("${COMMON[@]}")
if foreign_cargo; then
    say "Rust for the agent: $(cargo --version) at $(command -v cargo)"
    if [ "$want_tests" -eq 1 ]; then
        for part in clippy fmt; do
            cargo "$part" --version >/dev/null 2>&1 ||
                die "$(command -v cargo) has no $part: rustup component add clippy rustfmt"
        done
    fi
else
    say "Rust for the agent: Debian's, series $RUST_SERIES"
    packages+=("${RUST[@]}")
    if [ "$want_tests" -eq 1 ]; then packages+=("${RUST_LINT[@]}"); fi
fi
packages+=("${LLVM_STRIP[@]}")
if ! own_ebpf_toolchain >/dev/null; then packages+=("${RUST[@]}" "${RUST_EBPF[@]}" "${LLVM_LINK[@]}"); fi
if [ "$want_peers" -eq 1 ]; then packages+=("${PEERS[@]}"); fi
if [ "$want_tests" -eq 1 ]; then packages+=("${TESTS[@]}" "${CLIENTS[@]}" "${KERNEL[@]}"); fi
if [ "$want_cross" -eq 1 ]; then packages+=("${CROSS[@]}"); fi
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)

say "Debian packages"
install_packages "${packages[@]}"
say "eBPF tools"
setup_bpf_linker
if [ "$want_cross" -eq 1 ]; then
    say "cross-compilation tools"
    setup_zig
fi
say "ready after $((SECONDS - started)) s"
if [ "$run_demo" -eq 1 ]; then
    say "eBPF objects, agent, demo router (the first build takes some minutes)"
    cd "$(dirname "$0")/.."
    cargo xtask demo -- "$@"
fi

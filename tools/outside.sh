#!/usr/bin/env bash
# Installs the programs that tests/outside and tests/scenarios drive, on a Debian machine as root, and says which ones
# could not be installed. Ends well in either case: a test whose program is not there is skipped, and says so. PYTHON= is
# the interpreter that runs the tests.
set -uo pipefail

PACKAGES=(strace curl wrk apache2-utils siege slowhttptest redis-tools iperf3 dnsperf socat
    nginx redis-server unbound nghttp2-client openssl iproute2 gcc)
# CPython's own tests, of the interpreter that runs ours: Debian packs them apart from its own, others have them or not.
PYTHON=${PYTHON:-python3}
besides=()
if ! "$PYTHON" -c 'import test.test_socket' 2>/dev/null; then
    read -r prefix version <<<"$("$PYTHON" -c 'import sys; print(sys.base_prefix, "%d.%d" % sys.version_info[:2])')"
    if [ "$prefix" = /usr ]; then PACKAGES+=("libpython$version-testsuite"); else besides+=("CPython's own tests of $prefix"); fi
fi
# A download is given up after so many seconds; what is there then is installed.
DOWNLOAD_SECONDS=${DOWNLOAD_SECONDS:-60}
export DEBIAN_FRONTEND=noninteractive

missing() {
    local package
    for package in "${PACKAGES[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s ' "$package"
    done
}

install() { # install PACKAGE...
    timeout "$DOWNLOAD_SECONDS" apt-get install -qq --no-install-recommends --download-only "$@" &&
        apt-get install -qq --no-install-recommends --no-download "$@"
} </dev/null >/dev/null 2>&1

if ! command -v apt-get >/dev/null; then
    echo "outside.sh: this is no Debian machine; install what you can of: ${PACKAGES[*]}" "${besides[@]}"
    exit
fi
read -ra wanted <<<"$(missing)"
if [ ${#wanted[@]} != 0 ] && [ "$(id -u)" = 0 ]; then
    # The tests start the servers themselves: none comes up by being installed.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    timeout "$DOWNLOAD_SECONDS" apt-get update -qq >/dev/null 2>&1
    # One that this release does not have must not keep the others away.
    install "${wanted[@]}" || for package in "${wanted[@]}"; do install "$package"; done
    read -ra wanted <<<"$(missing)"
fi
if [ ${#wanted[@]} != 0 ]; then
    echo "outside.sh: could not be installed$([ "$(id -u)" = 0 ] || echo ', which takes root'), and their tests are NOT run: ${wanted[*]}"
fi
if [ ${#besides[@]} != 0 ]; then echo "outside.sh: not there, and NOT run: ${besides[*]}"; fi

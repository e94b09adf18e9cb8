#!/usr/bin/env bash
# Prints where the tool is that reads what a run of tools/train.py has taught; fails, and says why, where it cannot be had.
find_tool() { find "$(rustc --print sysroot)/lib/rustlib" -maxdepth 3 -name 'llvm-profdata*' 2>/dev/null | grep -m1 .; }
find_tool && exit
rustup component add llvm-tools >/dev/null 2>&1 || true
find_tool && exit
echo 'profdata.sh: no llvm-tools (rustup component add llvm-tools): without a profile, which is slower' >&2
exit 1

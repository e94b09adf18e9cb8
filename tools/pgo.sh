#!/usr/bin/env bash
# Prints the option by which maturin lets the compiler learn from a run of tools/train.py; nothing, and why, where the tool
# that reads what was learnt cannot be had.
has_tool() { ls "$(rustc --print sysroot)"/lib/rustlib/*/bin/llvm-profdata* >/dev/null 2>&1; }
has_tool || rustup component add llvm-tools >/dev/null 2>&1 || true
if has_tool; then
    echo --pgo
else
    echo 'pgo.sh: no llvm-tools (rustup component add llvm-tools): built without a profile, which is slower' >&2
fi

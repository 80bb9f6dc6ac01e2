#!/usr/bin/env bash
# Both bindings must ask for the same features of the crates that both use: then cargo compiles these once, and not again for the
# second binding, which takes minutes. If they drift apart, the smaller side names the missing features in its Cargo.toml.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C

# A line for each crate: its name and version, and its features.
features() {
  cargo tree --locked --manifest-path "$1/Cargo.toml" --edges normal,build --prefix none --no-dedupe --format '{p}|{f}' |
    sed 's/ (.*)|/|/' | sort -u
}
# Those that differ, of the crates that both have.
differing=$(join -t '|' <(features python) <(features node) | awk -F '|' '$2 != $3 { print "  " $1 ": python [" $2 "], node [" $3 "]" }')
[ -z "$differing" ] || { printf 'The bindings differ in the features of\n%s\n' "$differing"; exit 1; }

#!/usr/bin/env bash
# The sdist has all that it takes to build: it is installed into an environment of its own, as its users do it, and used. What is
# installed has the licences' texts.
# Thoroughly, a clean clone is as well, and the wheel as it is published by every interpreter that is supported and can be found.
#
#   packages.sh BIN TARGET     with the tools in BIN, building in TARGET, which spares building all crates anew
set -euo pipefail
bin=$1
export CARGO_TARGET_DIR=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
here=$(cd "$(dirname "$0")/.." && pwd)

# pip asks for what builds it by itself; here it is there already.
install() { "$1" -m pip install --quiet --no-deps --no-index --no-build-isolation "$2"; }
try() {
  (cd "$folder" && "$1" -W error -c '
import sys
from evertoken.testing import AuthServer
with AuthServer() as server, server.client() as api:
    assert server.accepts(api.token())
print("evertoken works in", sys.version.split()[0])')
}

"$bin/python" -m venv --system-site-packages "$folder/venv"
# The tools of BIN, for what has no registry at hand.
site=$("$folder/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
"$bin/python" -c 'import site; print(site.getsitepackages()[0])' >"$site/tools.pth"
export PATH=$bin:$PATH

(cd "$here" && maturin sdist --out "$folder" >/dev/null 2>&1)
tar tzf "$folder"/evertoken-*.tar.gz >"$folder/list"
for text in LICENSE-MIT bindings/python/README.md Cargo.lock python/evertoken/py.typed src/lib.rs; do
  grep -q "/$text$" "$folder/list" || { echo "no $text in the sdist"; exit 1; }
done
install "$folder/venv/bin/python" "$folder"/evertoken-*.tar.gz
for text in LICENSE-MIT LICENSE-APACHE; do
  cmp "$here/../../$text" "$site"/evertoken-*.dist-info/licenses/licenses/$text
done
try "$folder/venv/bin/python"
[ -n "${EVERTOKEN_THOROUGH:-}" ] || exit 0
"$folder/venv/bin/pip" uninstall --quiet --yes evertoken
git clone --quiet "$here/../.." "$folder/clone"
install "$folder/venv/bin/python" "$folder/clone/bindings/python"
try "$folder/venv/bin/python"
(cd "$folder/clone/bindings/python" && maturin build --profile dist --locked --out "$folder/wheels" >/dev/null 2>&1)
for python in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[0-9]*/bin/python3; do
  [ -x "$python" ] || continue
  rm -rf "$folder/each" && "$python" -m venv "$folder/each"
  "$folder/each/bin/pip" install --quiet --no-index "$folder"/wheels/*.whl
  try "$folder/each/bin/python"
done

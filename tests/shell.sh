#!/bin/sh
# shell.sh - shellcheck has nothing to say about our shell scripts.
set -u
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
cd "$top_srcdir" || exit 1

command -v shellcheck >/dev/null || tap_skip_all "shellcheck is not installed"
scripts="$(grep -rlE '^#!/(usr/)?bin/(env )?(ba)?sh' bootstrap tests) etc/bash-completion/portctl
etc/bash-completion/portd etc/bash-completion/portload"
# Not in the release tarball: it concerns the repository only.
[ ! -e .ci/run ] || scripts="$scripts .ci/run"
for script in $scripts tests/tap.sh; do
	tap_empty "$script" "$(shellcheck -x -f gcc "$script" 2>&1)"
done
tap_done

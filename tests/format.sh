#!/bin/sh
# format.sh - clang-format decides how C looks; it has nothing to say about ours.
set -u
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
cd "$top_srcdir" || exit 1

command -v clang-format >/dev/null || tap_skip_all "clang-format is not installed"
# A file once, however much is wrong with it; anything else that clang-format says as it is.
complaints=$(find src tests -name '*.[ch]' -exec clang-format --dry-run --Werror {} + 2>&1)
status=$?
files=$(printf '%s\n' "$complaints" | sed -n -e 's/^\([^:]*\):[0-9].*clang-formatted.*/\1/p' | sort -u)
[ $status -eq 0 ] || complaints=${files:-"clang-format failed ($status): $complaints"}
tap_empty "C sources are as clang-format leaves them" "$complaints"
tap_done

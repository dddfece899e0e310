#!/bin/sh
# unit.sh PROGRAM - runs one criterion program, TAP on stdout. In a sanitizer build criterion passes a
# test whose process left a report, so reports go to files, and any file is a failure.
#
# Environment: PORTD_TEST_SLOW (a factor on the time a test may take), PORTD_TEST_ONLY (a name a
# line, suite::test: these tests alone).
set -u

logs=$(mktemp -d) || exit 99
trap 'rm -rf "$logs"' EXIT
# The runner itself leaks six bytes, once.
echo 'leak:criterion_handle_args' >"$logs/suppressions"
export ASAN_OPTIONS="log_path=$logs/report:detect_leaks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="log_path=$logs/report:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export LSAN_OPTIONS="suppressions=$logs/suppressions:print_suppressions=0"
export CRITERION_OUTPUTS=tap:-

set -- "$@" --timeout $((60 * ${PORTD_TEST_SLOW:-1}))
if [ -n "${PORTD_TEST_ONLY:-}" ]; then
	set -- "$@" --filter "@($(printf '%s' "$PORTD_TEST_ONLY" | sed 's|::|/|' | tr '\n' '|'))"
fi
"$@"
status=$?
for report in "$logs"/report*; do
	[ -e "$report" ] || continue
	sed 's/^/# /' "$report"
	echo 'Bail out! a sanitizer report'
	status=1
done
exit "$status"

# tap.sh - what the shell tests share: TAP on stdout, and where things are. Sourced, not run.
# shellcheck shell=sh

: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}"
: "${PORTD:=./portd}"
: "${PORTCTL:=./portctl}"
: "${PORTLOAD:=./portload}"
tap_count=0

# A test named $1 that passes if $2, its complaints, is empty; else they are shown.
tap_empty() {
	tap_count=$((tap_count + 1))
	if [ -z "$2" ]; then
		echo "ok $tap_count - $1"
	else
		echo "not ok $tap_count - $1"
		printf '%s\n' "$2" | sed 's/^/# /'
	fi
}

# A test named $1 that is skipped for the reason $2.
tap_skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

# Skips the whole script, for the reason $1, unless a test has run already.
tap_skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

# The plan; without it the script counts as broken off.
tap_done() {
	echo "1..$tap_count"
}

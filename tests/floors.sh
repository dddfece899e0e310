#!/bin/sh
# floors.sh - the floors of the house: base <- net <- core <- serve <- daemon, and ctl and load on
# base and net. No include points up, core names no service, only the daemon logs and talks to systemd, and
# no file or function grows too long. Who calls whom: circles.py.
set -u
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"
cd "$top_srcdir" || exit 1

files=$(find src -type f)
export files

# Complains about every include in folder $1 that is not of the floors $2.
check_floor() {
	find "src/$1" \( -name '*.[ch]' -o -name '*.def' \) -exec awk -v floors=" $2 " '
		BEGIN {
			count = split(ENVIRON["files"], names, "\n")
			for (i = 1; i <= count; i++)
				ours[names[i]] = 1
		}
		/^[ \t]*#[ \t]*include[ \t]*["<]/ {
			match($0, /["<][^">]*/)
			quoted = substr($0, RSTART, 1) == "\""
			name = substr($0, RSTART + 1, RLENGTH - 1)
			floor = name
			sub(/\/.*/, "", floor)
			if (("src/" name) in ours) {
				if (!index(floors, " " floor " "))
					print FILENAME " includes " name
			} else if (quoted && name != "config.h")
				print FILENAME " includes " name ", which is no file under src"
		}' {} +
}

tap_empty "base stands on nothing" "$(check_floor base 'base')"
tap_empty "net stands on base" "$(check_floor net 'base net')"
tap_empty "core stands on net" "$(check_floor core 'base net core')"
tap_empty "serve stands on core" "$(check_floor serve 'base net core serve')"
tap_empty "daemon stands on all of them" "$(check_floor daemon 'base net core serve daemon')"
tap_empty "ctl stands on base and net" "$(check_floor ctl 'base net ctl')"
tap_empty "load stands on base and net" "$(check_floor load 'base net load')"
floors='base core ctl daemon load net serve'
tap_empty "the floors are these: $floors" \
	"$(find src -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | tr '\n' ' ' |
		grep -vxF "$floors ")"

# The one place where core may know a service by name is the default of the key.
services=$(find src/serve -name '*.c' -exec basename {} .c \;)
tap_empty "core names no service" "$(for service in $services; do
	find src/core -type f ! -name config.def -exec grep -nHE \
		"\"$service\"|\b${service}_service\b|\bservice_$service\b" {} +
done)"

tap_empty "only the daemon logs" "$(grep -rnE '\blog_(error|warning|info|debug)\(' src |
	grep -vE '^src/(daemon/|base/log\.[ch]:)')"
tap_empty "only the daemon talks to systemd" "$(grep -rn 'include <systemd/' src |
	grep -v '^src/daemon/')"

tap_empty "no source file over 800 lines" "$(find src tests -type f \
	\( -name '*.[ch]' -o -name '*.def' -o -name '*.py' -o -name '*.sh' \) -exec wc -l {} + |
	awk '$2 != "total" && $1 > 800 { print $2 ": " $1 " lines" }')"

# K&R: a function's body, and nothing else, starts with a brace alone in the first column.
tap_empty "no function over 60 lines" "$(find src tests -name '*.c' -exec awk '
	FNR == 1 { start = 0 }
	/^\{/ { start = FNR }
	/^\}/ && start {
		if (FNR - start - 1 > 60)
			print FILENAME ":" start ": " FNR - start - 1 " lines"
		start = 0
	}' {} +)"

tap_done

#!/bin/sh
# docs.sh - the documentation says what the program does: keys, defaults, words, numbers, options.
# Compares the manual pages, README.md and etc/portd.conf with the tables of src/core and with what
# portd and portctl really print.
set -u
# shellcheck source=tests/tap.sh
. "$(dirname "$0")/tap.sh"

man=$top_srcdir/man
core=$top_srcdir/src/core
dir=$(mktemp -d) || exit 1
pid=
trap '[ -z "$pid" ] || kill "$pid"; rm -rf "$dir"' EXIT

# The rows X(...) of a .def file, one a line, their fields separated by |.
def_rows() {
	sed -e '1,/\*\//d' "$core/$1" | tr -s '\n\t' '  ' | sed -e 's/X(/\n&/g' |
		sed -n -e 's/^X(\(.*\)) *$/\1/p' | sed -e 's/, /|/g' -e 's/"//g'
}

# Field number $2 of each row of $1.
def_field() {
	def_rows "$1" | cut -d '|' -f "$2"
}

# The list $1 against the list $2: nothing if they are the same, and not empty.
differences() {
	printf '%s\n' "$1" >"$dir/want"
	printf '%s\n' "$2" >"$dir/have"
	if [ -z "$1" ]; then
		echo "the list to compare with is empty"
	else
		diff -U 0 --label wanted --label documented "$dir/want" "$dir/have"
	fi
}

# The items (.It Cm) of $1 in the subsection whose title is $2, with what follows in the line.
man_items() {
	awk -v title=".Ss $2" '
		/^\.S[hs]/ { inside = $0 == title }
		inside && /^\.It Cm / { print $3 }' "$man/$1"
}

# Those of the words $2 that are not in file $1 as whole words. No words at all is a complaint too.
missing_words() {
	[ -n "$2" ] || echo "there is nothing to look for"
	sed -e 's/\\&//g' "$1" >"$dir/plain"
	for word in $2; do
		grep -qFw -e "$word" "$dir/plain" || echo "$word is missing"
	done
}

# Keys, in the order of the table, with section, default and whether they are live.
socket=$(sed -n -e 's/^#define CONFIG_DEFAULT_SOCKET *"\(.*\)"$/\1/p' "$core/config.h")
want=$(def_rows config.def | awk -F '|' -v socket="$socket" '{
	value = $5 == "" ? "empty" : $5 == "CONFIG_DEFAULT_SOCKET" ? socket : $5
	print $1 "." $2 " = " value ", " ($8 == "LIVE" ? "live" : "not live") }')
have=$(sed -e 's/\\&//g' "$man/portd.conf.5" | awk '
	/^\.Ss Bq / { section = $3 }
	/^\.It Cm / { key = $3 }
	/^\.Pq default / {
		value = $3 == "Cm" ? $4 : $3
		sub(/^.* , (No )?/, "")
		print section "." key " = " value ", " $0
	}' | sed -e 's/, empty$//' -e 's/empty ,/empty,/')
tap_empty "portd.conf(5) has every key with its default, in the table's order" \
	"$(differences "$want" "$have")"

tap_empty "portctl(1) has every reason for shedding, ranked as in the table" \
	"$(differences "$(def_field sheds.def 2)" "$(man_items portctl.1 'Reasons for shedding')")"
tap_empty "portd.conf(5) has the reasons for shedding in the order of the table" \
	"$(differences "$(def_field sheds.def 2)" "$(awk '
		/^\.S[hs]/ { inside = $0 == ".Sh ORDER OF THE LIMITS" }
		inside && item && /^\.Cm / { print $2 }
		{ item = /^\.It$/ }' "$man/portd.conf.5")")"
tap_empty "portd.conf(5) says how long a line may be" \
	"$(differences "$(sed -n -e 's/^#define CONFIG_LINE_MAX *//p' "$core/config_file.h")" \
		"$(sed -n -e 's/^.*a line may have at most \([0-9]*\) bytes\.$/\1/p' "$man/portd.conf.5")")"
tap_empty "portctl(1) has every reason for closing" \
	"$(differences "$(def_field closes.def 2)" "$(man_items portctl.1 'Reasons for closing')")"
tap_empty "portd(8) has every probe, in the order of their header" \
	"$(differences "$(sed -n -e 's/^#define PROBE_\([A-Z]*\)(.*/\1/p' "$core/probe.h" | tr '[:upper:]' '[:lower:]')" \
		"$(man_items portd.8 Probes)")"
tap_empty "portctl(1) has every event, in the table's order" \
	"$(differences "$(def_field ../daemon/history.def 2)" "$(man_items portctl.1 'What happens')")"
tap_empty "portctl(1) has every errno of accept4" \
	"$(differences "$(def_field accept_errors.def 1)" \
		"$(man_items portctl.1 Accepting | grep -v accept)")"
tap_empty "portctl(1) has every counter under both names" "$(differences \
	"$(def_rows counters.def | awk -F '|' '{ print $2, $3 }' | sort)" \
	"$(awk '
		/^\.It Cm / { path = $3 }
		/^\.Pq Cm portd_[a-z_]*_total$/ && path ~ /^(accept|traffic|keepalive)\./ { print path, $3 }' \
		"$man/portctl.1" | sort)")"

tap_empty "portload(1) has every outcome, in the table's order" \
	"$(differences "$(def_field ../load/outcomes.def 2)" "$(awk '
		/^\.S[hs]/ { inside = $0 == ".Sh OUTCOMES" }
		inside && /^\.It Cm / { print $3 }' "$man/portload.1")")"

# The journal's records: "word level id fields" of each, in the table's order.
common='PORTD_STATE PORTD_CONNECTIONS PORTD_CONNECTIONS_MAX'
catalog=$top_srcdir/systemd/portd.catalog
records=$(def_rows ../daemon/journal.def | awk -F '|' '{
	gsub(/ +/, " ", $5)
	print $2, tolower($4), $3, $5 }')
tap_empty "portd(8) has every record of the journal with its id and fields" \
	"$(differences "$records" "$(awk '
		/^\.S[hs]/ { inside = $0 == ".Ss Events" }
		!inside { next }
		/^\.It Cm / { head = $3 " " $5 }
		/^\.Va MESSAGE_ID / { head = head " " $NF }
		/^\.Va (PORTD_|ERRNO)/ {
			gsub(/^\.Va | \.$/, "")
			gsub(/ , /, " ")
			print head, $0 }' "$man/portd.8")")"
tap_empty "portd(8) explains every field of these records" \
	"$(differences "$(echo "$common" "$records" | grep -oE '(PORTD_[A-Z_]+|\bERRNO)' | sort -u)" \
		"$(awk '
			/^\.S[hs]/ { inside = $0 == ".Ss Fields" }
			inside && /^\.It Va / { print $3 }' "$man/portd.8" | sort)")"
tap_empty "the catalog has every id, in the table's order" \
	"$(differences "$(echo "$records" | cut -d ' ' -f 3)" "$(sed -n -e 's/^-- //p' "$catalog")")"
tap_empty "each text of the catalog has a head and a body, and names fields of its record only" \
	"$(echo "$records" | while read -r word _ id fields; do
		awk -v id="-- $id" '/^-- / { inside = $0 == id; next } inside' "$catalog" >"$dir/entry"
		for head in Subject Defined-By Support Documentation; do
			grep -q "^$head: ." "$dir/entry" || echo "$word: no $head"
		done
		sed -e '1,/^$/d' "$dir/entry" | grep -q . || echo "$word: no body"
		grep -oE '@[A-Z_]+@' "$dir/entry" | tr -d @ | sort -u | while read -r name; do
			echo "$common $fields" | grep -qw "$name" || echo "$word has no $name"
		done
	done)"

# What the programs themselves say that they take.
for page in portd.8 portctl.1 portload.1; do
	case $page in
	portd.8) program=$PORTD ;;
	portctl.1) program=$PORTCTL ;;
	*) program=$PORTLOAD ;;
	esac
	# Both sides as -x and --xxx: mdoc writes a dash for Fl, and ours for the second.
	options=$("$program" --help | grep -oE '(^|[ |[])--?[a-zA-Z][a-z-]*' | tr -d ' |[' | sort -u)
	sed -n -e '/^\.\(Fl\|Op\|It\) /{s/^\.//; s/\\-/-/g; s/ |/ Fl/g; s/Fl \([^ ]*\)/-\1/gp}' "$man/$page" |
		tr ' ' '\n' >"$dir/flags"
	tap_empty "$page has every option of --help" "$([ -n "$options" ] || echo "no options seen"
		for option in $options; do
			grep -qx -e "$option" "$dir/flags" || echo "$option is missing"
		done)"
done

# Our own pages must find each other; whether others are installed is not ours to say.
if command -v mandoc >/dev/null; then
	tap_empty "mandoc has nothing to say" "$(mandoc -T lint -W style "$man"/*.[158] 2>&1 |
		grep -v -e 'referenced manual not found' -e 'outdated mandoc.db')"
else
	tap_skip "mandoc has nothing to say" "mandoc is not installed"
fi

# etc/portd.conf is comments only, and saying its defaults aloud changes nothing.
conf=$top_srcdir/etc/portd.conf
sed -e 's/^#\([a-z_0-9]* = \)/\1/' -e 's/^#\([a-z_0-9]* =\)$/\1/' "$conf" >"$dir/spoken.conf"
: >"$dir/empty.conf"
tap_empty "etc/portd.conf sets nothing" "$(grep -vE '^(#|\[|$)' "$conf")"
tap_empty "etc/portd.conf is valid with every key uncommented" \
	"$("$PORTD" -t -c "$dir/spoken.conf" >"$dir/out" 2>&1 || cat "$dir/out")"
tap_empty "etc/portd.conf has every key that portd -T has" "$(differences \
	"$("$PORTD" -T -c "$dir/empty.conf" | grep -oE '^(\[.*\]|[a-z_0-9]+ =)')" \
	"$(grep -oE '^(\[.*\]|[a-z_0-9]+ =)' "$dir/spoken.conf")")"
tap_empty "etc/portd.conf has the defaults" "$(differences \
	"$("$PORTD" -T -c "$dir/empty.conf")" "$("$PORTD" -T -c "$dir/spoken.conf")")"

# The numbers, as a running portd gives them.
"$PORTD" -c "$dir/empty.conf" -o listener.address=127.0.0.1:0 -o control.socket="$dir/socket" \
	2>"$dir/log" &
pid=$!
tries=0
until "$PORTCTL" -s "$dir/socket" health >/dev/null 2>&1 || [ $tries -ge 100 ]; do
	tries=$((tries + 1))
	sleep 0.1
done
for format in prometheus openmetrics json; do
	"$PORTCTL" -s "$dir/socket" stats "--$format" >"$dir/$format" 2>>"$dir/log"
done
metrics=$(awk '$2 == "TYPE" { print $3 }' "$dir/prometheus")
tap_empty "portd runs and has numbers" "$([ -n "$metrics" ] || cat "$dir/log")"
tap_empty "portctl(1) has every metric" \
	"$(missing_words "$man/portctl.1" "$metrics")"
tap_empty "portctl(1) has no metric that is not there" \
	"$(missing_words "$dir/prometheus" "$(grep -oE '\bportd_[a-z_]+' "$man/portctl.1" | sort -u)")"
tap_empty "OpenMetrics has the same metrics" "$(differences \
	"$(grep -oE '^portd_[a-z_]+' "$dir/prometheus" | uniq)" \
	"$(grep -oE '^portd_[a-z_]+' "$dir/openmetrics" | uniq)")"
# The requests of the control socket: the first word of each row of the table that answers them, and
# the second where there is one.
requests=$(sed -n -e 's/^ *{"\([a-z]*\)", NULL,.*/\1/p' \
	-e 's/^ *{"\([a-z]*\)", "\([a-z]*\)",.*/\1 \2/p' "$top_srcdir/src/daemon/requests.c")
# shellcheck disable=SC2016
tap_empty "portctl(1) has every request of the control socket" "$(
	[ -n "$requests" ] || echo "no requests seen"
	sed -n -e '/^\.Sh FILES/,/^\.Sh EXIT/s/^\.Ql \([a-z ]*[a-z]\).*/\1/p' "$man/portctl.1" >"$dir/told"
	printf '%s\n' "$requests" | grep -vxF -f "$dir/told"
)"
if command -v "${PYTHON3:=python3}" >/dev/null; then
	# Groups whose members are words of a table are named as a whole.
	paths=$("$PYTHON3" -c '
import json, sys
def walk(prefix, value):
    if prefix in ("time_in_state_seconds", "accept.errors", "shed", "would_shed",
                  "closed", "queue_wait_seconds"):
        print(prefix)
    elif prefix == "workers":
        print(prefix, *value[0], sep="\n")
    elif isinstance(value, dict):
        for name, inner in value.items():
            walk(prefix + "." + name if prefix else name, inner)
    else:
        print(prefix)
walk("", json.load(open(sys.argv[1])))' "$dir/json" 2>&1)
	# What the page says about a number stands under its name, not in a line that mentions it.
	sed -n -e 's/\\&//g' -e 's/^\.\(It \)\{0,1\}Cm //p' "$man/portctl.1" >"$dir/items"
	tap_empty "portctl(1) has every path of the JSON" "$(missing_words "$dir/items" "$paths")"
	tap_empty "README.md has every path of the JSON" \
		"$(missing_words "$top_srcdir/README.md" "$paths")"
else
	tap_skip "the paths of the JSON" "python3 is not installed"
fi
if command -v "$PYTHON3" >/dev/null; then
	# portload's object, of a churn that nobody answers: port 1 of an address that is nobody's.
	"$PORTLOAD" churn 127.255.0.1:1 --count 1 --json >"$dir/load" 2>&1
	sed -n -e '/^\.Sh JSON/,/^\.Sh EXIT/{s/^\.\(It \|Po \)\{0,1\}Cm //p;}' "$man/portload.1" >"$dir/members"
	tap_empty "portload(1) has every member of its JSON" "$(missing_words "$dir/members" "$("$PYTHON3" -c '
import json, sys
report = json.load(open(sys.argv[1]))
print(*report, *report["load"], *report["connect_seconds"], sep="\n")' "$dir/load" 2>&1)")"
else
	tap_skip "portload(1) has every member of its JSON" "python3 is not installed"
fi
tap_done

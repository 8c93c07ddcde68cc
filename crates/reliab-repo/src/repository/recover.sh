#!/bin/sh
# recover.sh - gets files back out of a reliab repository, without reliab.
# recover.sh, edition 9
#
# Plain POSIX sh. It uses awk, zstd, tar, sha256sum (or shasum), sort and the small tools that every Unix has.
# It never writes into the repository, and never outside the folder that you name.
# Run `sh recover.sh --help` for how to use it; the file README beside it says what all this is.
#
# How it works. Files lie in packs as pieces of tar archives, each piece (blob) a zstd frame. "Pages" say what the
# entries of a snapshot are and which piece holds their bytes. So: read the index (which blob is where), the snapshot,
# its lists and pages; merge the pages by path (the newest layer wins); then cut the wanted tar records out of the
# blobs, join them, and pipe that into tar. Everything that is not a regular file, and every second name of a file, is
# written from the pages alone, as tar headers made here. docs/format.md of the project describes every byte.
#
# What damage costs. A pack whose SHA-256 is not its name is damaged somewhere. Each frame in it has a checksum of its
# own, so of such a pack the frames that zstd accepts are used, and only the files of the others are lost.
#
# Nothing appears in TARGET under its name before it is whole: all is written into `recover-unfinished.N/tree` there, the
# lengths are compared, then what stands at the top of that is renamed into TARGET. What this script notes for itself is
# in `recover-unfinished.N/notes`, where nothing from the repository is extracted: parts of the notes are run as shell.
#
# Whom it trusts. Not the repository: who can write there must not be able to run commands as who restores, or to write
# outside of TARGET. So tar gets no header that was not compared with the manifest first (see `inspect`), and what the
# manifest says is quoted wherever a shell reads it.
#
# How it knows that all is well. A disk may be full, and then what is noted is lost as well. So nothing is taken to be
# fine because no note says otherwise: two files stand in the notes as long as nothing failed (`ok` and `written`), each
# time that notes were written it is tried whether there still is room (`settled`), and files are counted.
#
# The parts of this text, in order:
#   arguments and tools     awk library     reading the repository (checksums, index, blobs)     snapshots
#   the manifest (lists, pages, their merging, the plan)     restore: tar, the streams, headers, metadata, the steps
#   check     main

set -u
unset CDPATH TAR_OPTIONS TAR_READER_OPTIONS POSIXLY_CORRECT
# (With these, ls gives sizes in other units, and names in quotes or colours, or fails.)
unset BLOCK_SIZE LS_BLOCK_SIZE BLOCKSIZE QUOTING_STYLE TIME_STYLE CLICOLOR_FORCE
LC_ALL=C TZ=UTC0
export LC_ALL TZ

# Tools come from folders with a full name: what PATH names otherwise (such as "." or nothing) would be sought among the
# files of the repository and those that were just restored.
folders=''
set -f
IFS=:
for folder in ${PATH:-/usr/bin:/bin}; do
	case $folder in
	/*) folders=$folders:$folder ;;
	esac
done
unset IFS
set +f
PATH=${folders#:}
export PATH

usage() {
	cat <<'END'
recover.sh - gets files back out of a reliab repository, without reliab.

  sh recover.sh list
      which snapshots there are, the newest last
  sh recover.sh ls [SNAPSHOT] [PATH]
      the paths in a snapshot
  sh recover.sh restore [SNAPSHOT] TARGET [PATH]
      write a snapshot, or one file or folder of it, into TARGET
  sh recover.sh check
      is every file of the repository still as it was written?

SNAPSHOT is the first letters of an id that `list` shows, or `latest` (also
when left out). TARGET is a folder that is empty or does not exist yet. PATH is
as `ls` shows it, or the whole path that it had when it was backed up.

  -r, --repo DIR    the repository; else the folder that recover.sh stands in
  --keep-going      restore all that is not damaged, list what is lost
  --no-check        do not compare checksums of whole packs first (faster);
                    those of snapshots are compared all the same
  -h, --help        this text

Examples:
  sh recover.sh list
  sh recover.sh restore latest /tmp/rescued
  sh recover.sh ls 3fa94c01 etc/nginx
  sh recover.sh restore 3fa94c01 /tmp/rescued etc/nginx/nginx.conf
  sh /mnt/usb/recover.sh -r /mnt/usb restore /tmp/rescued

Run it as root to get owners, device nodes and all attributes back.
If something that you want is damaged, nothing is written, and you are told
what would be lost; --keep-going then restores everything else.
Exit codes: 0 done, 1 failed, 2 wrong usage, 4 something in the repository is
missing or damaged (also if something else failed as well).
END
}

# The edition goes up with each change, by one: `reliab backup` replaces a script whose number is not higher than its own.

say() { printf '%s\n' "$*" >&2; }

# die CODE MESSAGE
die() {
	code=$1
	shift
	say "recover.sh: $*"
	exit "$code"
}

misuse() {
	die 2 "$*
(\`sh recover.sh --help\` shows how)"
}

# tell HEADING FILE: the names in a file below a heading. They are long, so each has a line of its own.
tell() {
	[ -s "$2" ] || return 0
	say "$1:"
	sed 's/^/  /' "$2" >&2
}

# For what goes wrong inside a pipe: remembered in a file, so that the end of the run can tell. What follows from an
# unreadable blob is not worth a word: it is found out which one, and all begins anew (see `carefully`).
fail() {
	all_read || return 0
	rm -f "$W/ok"
	say "recover.sh: $*"
}

# What is remembered in files is remembered by removing them: a full disk allows that.
unreadable() { rm -f "$W/readable"; }
all_read() { [ -f "$W/readable" ]; }
# True unless who should take what is read has ended (see `untar`), or something could not be read.
wanted() { [ -f "$W/taken" ] && all_read; }

# For notes that could not be written. Where this runs in a part of a pipe, `settled` ends the run.
no_room() {
	rm -f "$W/written"
	die 1 "cannot write notes to
  $W
(is there room?)"
}

# settled [BYTES]: ends the run if notes may not have been written. Not every awk tells that. But where it lacked room for
# a few KiB, there is none for 128 now. (The bytes are random because a file system may compress others to nothing.)
settled() {
	[ -f "$W/written" ] || die 1 "something that this needs failed (see above)"
	head -c "${1:-131072}" /dev/urandom 2>/dev/null >"$W/room" || no_room
	[ "$(wc -c <"$W/room")" -eq "${1:-131072}" ] || no_room
	rm -f "$W/room"
}

# awk, where it fails by itself, or is killed: our programs end with 0, with 3 to 5, or by SIGPIPE, such as from `| head`.
# shellcheck disable=SC2032 # what xargs runs need not
awk() {
	command awk "$@"
	set -- $?
	case $1 in
	0 | 3 | 4 | 5 | 141) ;;
	*) [ -z "$W" ] || rm -f "$W/written" ;;
	esac
	return "$1"
}
# sort, which may need room for what it does not hold in memory.
# shellcheck disable=SC2032 # what xargs runs need not
sort() { TMPDIR=$W command sort "$@" || rm -f "$W/written"; }
# note FILE: writes a file of notes from standard input; empty FILE...: makes such files empty.
note() { cat >"$W/$1" || no_room; }
empty() {
	for file; do
		# (A failing redirection of `:` would end the shell with code 2.)
		printf '' >"$W/$file" || no_room
	done
}
# scribe PROGRAM...: an awk that writes notes.
scribe() {
	awk "$@" || no_room
	settled
}

############################################################################################ arguments and tools

REPO='' CHECK=1 KEEP=0 NEWER_LOST=0 W='' MADE='' STAGE='' TREE='' DAMAGED=0 SHA='' BROKEN='' TAKEN_FOR_TARGET='' SHOWN='' PLACED=''
left=$#
while [ "$left" -gt 0 ]; do
	arg=$1
	shift
	left=$((left - 1))
	case $arg in
	-r | --repo)
		[ "$left" -gt 0 ] || misuse "$arg wants a folder"
		REPO=$1
		shift
		left=$((left - 1))
		;;
	--repo=*) REPO=${arg#--repo=} ;;
	--no-check) CHECK=0 ;;
	--keep-going) KEEP=1 ;;
	-h | --help)
		usage
		exit 0
		;;
	--)
		while [ "$left" -gt 0 ]; do
			set -- "$@" "$1"
			shift
			left=$((left - 1))
		done
		;;
	-?*) misuse "unknown option $arg" ;;
	*) set -- "$@" "$arg" ;;
	esac
done

tools() {
	for tool in awk zstd sort sed dd head tail tr fold od find xargs; do
		command -v "$tool" >/dev/null || die 1 "$tool is not installed; install it, then run this again"
	done
	if command -v sha256sum >/dev/null; then
		SHA=sha256sum
	elif command -v shasum >/dev/null; then
		SHA='shasum -a 256'
	elif [ "$CHECK" = 1 ]; then
		die 1 "neither sha256sum nor shasum is installed; install one,
or use --no-check"
	fi
}

open_repository() {
	if [ -z "$REPO" ]; then
		case $0 in
		*/*) REPO=${0%/*} ;;
		*) REPO=. ;;
		esac
	fi
	given=$REPO
	REPO=$(real_path "$given") || {
		[ ! -d "$given" ] || no_access "look into" "$given"
		die 1 "there is no folder $given; name the repository with -r"
	}
	REPO=${REPO%??}
	if ! [ -d "$REPO/snapshots" ] || ! [ -d "$REPO/packs" ]; then
		die 1 "no reliab repository (packs and snapshots) in $given; name one with -r"
	fi
	for folder in "$REPO"/snapshots "$REPO"/index "$REPO"/packs "$REPO"/packs/*; do
		[ ! -d "$folder" ] || { [ -r "$folder" ] && [ -x "$folder" ]; } || no_access "look into" "$folder"
	done
}

# no_access WHAT PATH: "damaged" would be the wrong word for what only somebody else may read.
no_access() {
	die 1 "you may not $1
  $2
Run this as root, or as the user who made the backup"
}

# real_path FOLDER: where it is, and two bytes to cut off ($() would cut off line feeds in its name, too).
real_path() (cd -P -- "$1" 2>/dev/null && pwd -P && echo .)

# workspace FOLDER: makes it; it is for notes.
workspace() {
	# (Where a folder has a default ACL, that counts in place of the umask.)
	(umask 077 && mkdir -m 700 "$1") || die 1 "cannot write to ${1%/*}"
	W=$1
	export W
	mkdir "$W/b" || no_room
	empty ok written readable taken bad checked tried
	printf 'abcdefgh' | note probe
	settled
	DD_BYTES=0
	[ "$(dd if="$W/probe" bs=4 iflag=skip_bytes,count_bytes skip=3 count=2 2>/dev/null)" = de ] && DD_BYTES=1
	check_config
}

# temporary: a folder for notes, for what does not restore.
temporary() {
	folder=$(real_path "${TMPDIR:-/tmp}") || die 1 "there is no folder ${TMPDIR:-/tmp} for notes; set TMPDIR"
	workspace "${folder%??}/recover-tmp.$(number_of_run)"
}
# A number that nobody can guess.
number_of_run() {
	number=$(od -An -N8 -tx1 /dev/urandom | tr -cd '0-9a-f')
	echo "${number:-$$}"
}

check_config() {
	[ ! -e "$REPO/repository.json" ] || [ -r "$REPO/repository.json" ] || no_access read "$REPO/repository.json"
	if [ -n "$SHA" ]; then
		config=$(config_state)
		[ "$config" = good ] || say "recover.sh: repository.json is $config; it is not needed to restore"
	fi
	encryption='' version=''
	# (One that is a pipe would be waited for.)
	if [ -f "$REPO/repository.json" ]; then
		encryption=$(sed -n 's/.*"encryption":\([^,]*\).*/\1/p' "$REPO/repository.json" 2>/dev/null)
		version=$(sed -n 's/^{"reliab":"repository","version":\([0-9]*\).*/\1/p' "$REPO/repository.json" 2>/dev/null)
	fi
	# A damaged one has no say: its bytes may be anything.
	[ "${config-good}" = good ] || encryption=null version=1
	[ "${version:-1}" = 1 ] || die 1 "this script reads version 1; the repository has version $version"
	[ "${encryption:-null}" = null ] || die 1 "the repository is encrypted; this script cannot read it"
}

cleanup() {
	[ -z "$W" ] || rm -rf "$W"
	[ -z "$STAGE" ] || rm -rf "$STAGE"/s[0-9]* "$STAGE/copy"
	[ -z "$TREE" ] || rmdir "$TREE" 2>/dev/null
	if [ -n "$STAGE" ] && [ -d "$STAGE" ] && ! rmdir "$STAGE" 2>/dev/null; then
		say "what was written so far, not all of it whole, is in $STAGE"
	fi
	[ -z "$MADE" ] || rmdir "$MADE" 2>/dev/null
}

# interrupted CODE: (With a trap for EXIT, mksh would end with the code of that.)
interrupted() {
	trap - EXIT
	trap '' INT TERM HUP
	say "recover.sh: interrupted"
	cleanup
	exit "$1"
}

############################################################################################ awk

# Functions that the awk programs below share. They are POSIX awk: mawk, busybox awk and gawk run them. Paths stand in
# pages with unusual bytes as %XX.
AWKLIB='
BEGIN {
	CONVFMT = OFMT = "%.0f"; Q = sprintf("%c", 39); W = ENVIRON["W"]; TAB = "\t"
	for (i = 1; i < 256; i++)
		if (i < 32 || i > 126 || i == 34 || i == 37 || i == 92) { CH[sprintf("%02X", i)] = sprintf("%c", i); HEX[sprintf("%c", i)] = sprintf("%02X", i) }
}
function die(message) { gsub("[\001-\037\177]", "?", message); print "recover.sh: " message > "/dev/stderr"; close("/dev/stderr"); exit 4 }
# The bytes of an escaped path. An escape that is not allowed (such as %2F or %00) makes it malformed.
function raw(s,  t, i, h) {
	if (!index(s, "%")) return s
	t = ""
	while ((i = index(s, "%")) > 0) {
		h = substr(s, i + 1, 2)
		if (!(h in CH)) { MALFORMED = 1; return "" }
		t = t substr(s, 1, i - 1) CH[h]
		s = substr(s, i + 3)
	}
	return t s
}
# An escaped path as a terminal may have it: U+0080 to U+009F are commands to some.
function shown(p,  t) {
	t = ""
	while (match(p, "\302[\200-\237]")) {
		t = t substr(p, 1, RSTART - 1) "%C2%" HEX[substr(p, RSTART + 1, 1)]
		p = substr(p, RSTART + 2)
	}
	return t p
}
# A string that sorts as the path does: component by component.
function key(r) {
	if (r == ".") return ""
	if (r ~ /[\001\002]/) { gsub(/\002/, "\002\002", r); gsub(/\001/, "\002\001", r) }
	gsub(/\//, "\001", r)
	return r
}
function quoted(s) { if (index(s, Q)) gsub(Q, Q "\\" Q Q, s); return Q s Q }
function is_id(s) { return length(s) == 64 && s !~ /[^0-9a-f]/ }
function is_number(s) { return s != "" && length(s) <= 10 && s !~ /[^0-9]/ }
function parent_of(p) { return sub("/[^/]*$", "", p) ? p : "" }
function pad(n) { return n + (512 - n % 512) % 512 }
# Collects names into command lines of a shell script.
function batch(file, command, name) {
	if (command != LINE_COMMAND || length(LINE) > 30000) flush_batch(file)
	LINE_COMMAND = command
	LINE = LINE " " quoted("./" name)
}
function flush_batch(file) {
	if (LINE != "") print LINE_COMMAND LINE " || not_set" > file
	LINE = ""
}
'

############################################################################################ reading the repository

# Reads names relative to the repository, one a line; prints those whose content does not match the name. (Where the
# tool says nothing of a file, or there is no room for what it says, that does not match.)
mismatched() {
	note names
	[ -s "$W/names" ] || return 0
	# shellcheck disable=SC2086 # SHA may hold options
	# shellcheck disable=SC2094 # it is only read
	(cd -P "$REPO" && xargs $SHA) <"$W/names" 2>/dev/null | awk '
		!second { order[++n] = $0; next }
		{ file = $2; sub(/^\*/, "", file); parts = split(file, part, "/"); if ($1 == part[parts]) good[file] = 1 }
		END { for (i = 1; i <= n; i++) if (!(order[i] in good)) print order[i] }' "$W/names" second=1 - || no_room
}

# without FILE1 FILE2: the lines of FILE2 that are not in FILE1.
without() { awk '!second { not[$0] = 1; next } !($0 in not)' "$1" second=1 "$2"; }

config_state() {
	[ -f "$REPO/repository.json" ] || {
		echo missing
		return
	}
	want=$(sed -n 's/.*,"sha256":"\([0-9a-f]*\)"}$/\1/p' "$REPO/repository.json" | tr -d '\0')
	# shellcheck disable=SC2086 # SHA may hold options
	got=$(command awk '{ i = index($0, ",\"sha256\":\""); printf "%s", substr($0, 1, i - 1); exit }' \
		"$REPO/repository.json" | $SHA)
	if [ -n "$want" ] && [ "$want" = "${got%% *}" ]; then echo good; else echo damaged; fi
}

# Names of files below a folder of the repository ("packs" has one more level), those that are 64 hex digits.
names_in() {
	for file in "$REPO/$1"/*; do
		if [ -d "$file" ]; then
			for inner in "$file"/*; do
				[ -f "$inner" ] && printf '%s\n' "$1/${file##*/}/${inner##*/}"
			done
		else
			[ -f "$file" ] && printf '%s\n' "$1/${file##*/}"
		fi
	done | awk '{ n = split($0, p, "/"); if (length(p[n]) == 64 && p[n] !~ /[^0-9a-f]/ && (n == 2 || p[2] == substr(p[3], 1, 2))) print }'
}

# $W/index: "pack ID SIZE", then the lines of its table; $W/packs: the packs that are there.
read_index() {
	say "reading the index"
	names_in packs | note packs
	names_in index | note index.names
	settled
	refuse_unreadable "$W/packs"
	refuse_unreadable "$W/index.names"
	empty index index.bad
	if [ "$CHECK" = 1 ]; then mismatched <"$W/index.names" | note index.bad; fi
	without "$W/index.bad" "$W/index.names" | note index.good
	settled
	if [ -s "$W/index.good" ] &&
		! { (cd -P "$REPO" && xargs cat) <"$W/index.good" | zstd -dcq >"$W/index"; } 2>/dev/null; then
		# One of them does not decompress: find out which. (Or there is no room for what they say.)
		settled 1048576
		empty index
		while read -r name; do
			if zstd -dcq <"$REPO/$name" >"$W/one" 2>/dev/null; then
				cat "$W/one" >>"$W/index" || no_room
			else
				settled 1048576
				printf '%s\n' "$name" >>"$W/index.bad" || no_room
			fi
		done <"$W/index.good"
	fi
	settled
	tell "damaged, but not needed (packs have tables of their own)" "$W/index.bad"
	awk '!second { if ($1 == "pack") known["packs/" substr($2, 1, 2) "/" $2] = 1; next } !($0 in known)' \
		"$W/index" second=1 "$W/packs" | note orphans
	settled
	empty tableless
	while read -r name; do
		read_table "$name" || printf '%s\n' "$name" >>"$W/tableless" || no_room
	done <"$W/orphans"
	settled
	tell "damaged (no index names what is in it, and its table cannot be read)" "$W/tableless"
	compare_sizes
}

# Packs that are not as long as the index says are damaged, and nobody needs to read them for that. (One that ends where
# a frame does would else pass for good, with --no-check.) So are those of which ls does not tell the length.
compare_sizes() {
	[ -s "$W/packs" ] || return 0
	(cd -P "$REPO" && xargs ls -lnL) <"$W/packs" | awk '{ print $NF, $5 }' | note sizes
	# shellcheck disable=SC2016 # these are awk's
	scribe '!second { size[$1] = $2; next }
		second == 2 { if (!($0 in size) && !told[$0]++) print; next }
		$1 == "pack" && $3 > 0 {
			name = "packs/" substr($2, 1, 2) "/" $2
			if ((name in size) && size[name] != $3 && !told[name]++) print name
		}' "$W/sizes" second=1 "$W/index" second=2 "$W/packs" >"$W/bad" || no_room
	cp "$W/bad" "$W/checked" || no_room
	tell "damaged (not as long as it was; what zstd accepts of it is used)" "$W/bad"
}

# refuse_unreadable NAMES: those of a file.
refuse_unreadable() {
	while read -r name; do
		[ -r "$REPO/$name" ] || no_access read "$REPO/$name"
	done <"$1"
}

# Appends the table at the end of a pack to $W/index.
read_table() {
	end=$(tail -c 15 "$REPO/$1" | tr -cd 'a-z0-9 ')
	case $end in
	"table "????????) end=${end#table } ;;
	*) return 1 ;;
	esac
	case $end in
	*[!0-9a-f]*) return 1 ;;
	esac
	length=$((0x$end))
	tail -c $((length + 15)) "$REPO/$1" | head -c "$length" | tr -d '\0' | note table
	awk 'NF != 4 || length($2) != 64 || $3 ~ /[^0-9]/ || $4 ~ /[^0-9]/ { bad = 1 } END { if (bad || !NR) exit 5 }' "$W/table" ||
		return 1
	printf 'pack %s 0\n' "${1##*/}" >>"$W/index" || no_room
	cat "$W/table" >>"$W/index" || no_room
}

# locate WANTED FOUND: for lines "NUMBER BLOB-ID" finds "NUMBER PACK OFFSET LENGTH UNCOMPRESSED", in the same order.
# What is nowhere goes to $W/lost. Packs are checked when they are first used; of a damaged one, frames are used that
# zstd accepts, and only for what no good pack holds.
locate() {
	while :; do
		look_up "$1" "$2"
		if [ "$CHECK" = 1 ] && check_packs "$2"; then continue; fi
		[ -s "$W/untried" ] || break
		try_frames
	done
	sort -u "$W/gone" | note gone.sorted
	tell "missing" "$W/gone.sorted"
}

# Writes FOUND and $W/lost, as far as is known now, and
#   untried   "PACK OFFSET LENGTH UNCOMPRESSED BLOB-ID" of frames in damaged packs that may hold what is lost
#   gone      packs that held what is lost, and are not there
look_up() {
	export WANTED FOUND
	WANTED=$1 FOUND=$2
	# shellcheck disable=SC2016 # these are awk's
	scribe "$AWKLIB"'
	function note_place(id, at, where) {
		if (state == "good") { if (!(id in place)) place[id] = where }
		else if (!(at in tried)) { untried[id] = untried[id] where " " id "\n"; tried[at] = 0 }
		else if (tried[at] + 0) second_best[id] = where
	}
	BEGIN {
		wanted = ENVIRON["WANTED"]; found = ENVIRON["FOUND"]; lost = W "/lost"
		while ((getline l < (W "/bad")) > 0) bad[l] = 1
		while ((getline l < (W "/packs")) > 0) { n = split(l, p, "/"); there[p[n]] = (l in bad) ? "damaged" : "good" }
		while ((getline l < (W "/tried")) > 0) { split(l, p, " "); tried[p[1] " " p[2]] = p[3] }
		while ((getline l < wanted) > 0) { split(l, p, " "); number[++count] = p[1]; id[count] = p[2]; want[p[2]] = 1 }
		printf "" > found; printf "" > lost; printf "" > (W "/untried"); printf "" > (W "/gone")
	}
	$1 == "pack" {
		state = ($2 in there) ? there[$2] : "absent"
		pack = substr($2, 1, 2) "/" $2; offset = 0
		next
	}
	state == "absent" { if (($2 in want) && is_id(substr(pack, 4))) gone[$2] = pack; next }
	state != "" && is_number($3) && is_number($4) {
		if ($2 in want) note_place($2, pack " " offset, pack " " offset " " $3 " " $4)
		offset += $3
		next
	}
	# Where a line of a table means nothing, nothing is known of those behind it.
	{ state = "" }
	END {
		for (i = 1; i <= count; i++) {
			b = id[i]
			if (b in place) print number[i], place[b] > found
			else if (b in second_best) print number[i], second_best[b] > found
			else {
				print number[i], b > lost
				if (b in untried) { printf "%s", untried[b] > (W "/untried"); untried[b] = "" }
				if (b in gone) print "packs/" gone[b] > (W "/gone")
			}
		}
	}' "$W/index"
}

# Checks the packs of FOUND that have not been; true if that found damage.
check_packs() {
	awk '!second { done[$0] = 1; next }
		{ name = "packs/" $2 } !(name in done) { done[name] = 1; print name }' "$W/checked" second=1 "$1" | note unchecked
	settled
	[ -s "$W/unchecked" ] || return 1
	count=$(awk 'END { print NR }' "$W/unchecked")
	[ "$count" -lt 3 ] || say "checking $count packs (--no-check leaves that out)"
	cat "$W/unchecked" >>"$W/checked" || no_room
	mismatched <"$W/unchecked" | without "$W/bad" - | note new.bad
	cat "$W/new.bad" >>"$W/bad" || no_room
	settled
	tell "damaged (what zstd accepts of it is used)" "$W/new.bad"
	[ -s "$W/new.bad" ]
}

# Tries the frames of $W/untried. $W/tried has lines "PACK OFFSET GOOD", GOOD being 1 or 0.
try_frames() {
	while read -r pack offset length full id; do
		good=0
		if cut_out "$REPO/packs/$pack" "$offset" "$length" 2>/dev/null | zstd -dcq >"$W/frame" 2>/dev/null &&
			[ "$(wc -c <"$W/frame")" -eq "$full" ] && has_digest "$id"; then
			good=1
		fi
		[ "$good" = 1 ] || settled 1048576
		printf '%s %s %s\n' "$pack" "$offset" "$good" >>"$W/tried" || no_room
	done <"$W/untried"
	rm -f "$W/frame"
	settled
}

# The id of a blob is the BLAKE3 of its bytes. Where nothing can tell, the checksum of the frame is enough.
has_digest() {
	command -v b3sum >/dev/null || return 0
	digest=$(b3sum <"$W/frame") && [ "${digest%% *}" = "$1" ]
}

# carefully FUNCTION...: does something that reads blobs. If zstd refuses one that was taken for good, because nobody
# checked (--no-check) or because a disk is failing right now, all packs that are used are checked and it is done again;
# and if even that does not find out which, with each frame tried before.
carefully() {
	for care in none packs frames; do
		case $care in
		packs)
			[ -n "$SHA" ] || continue
			say "recover.sh: zstd refuses a part of a pack; checking all, and beginning anew"
			CHECK=1
			empty checked
			;;
		frames)
			say "recover.sh: zstd refuses a part of a pack; trying each piece, and beginning anew"
			note bad <"$W/packs"
			empty tried
			;;
		esac
		empty readable ok
		"$@"
		all_read && return 0
		# What zstd could not write looks the same.
		settled 1048576
	done
	die 4 "what could be read a moment ago no longer can:
the disk or the memory fails. Copy the repository to another disk, and try
again with that"
}

# get PACK OFFSET LENGTH: bytes of a pack. (Not `r`, which is an alias in ksh.)
get() { ! wanted || cut_out "$REPO/packs/$1" "$2" "$3" || left_alone $? || unreadable; }

# cut_out FILE OFFSET LENGTH
cut_out() {
	if [ "$DD_BYTES" = 1 ]; then
		dd if="$1" bs=1048576 iflag=skip_bytes,count_bytes skip="$2" count="$3" 2>/dev/null
	else
		tail -c +$(($2 + 1)) "$1" 2>/dev/null | head -c "$3"
	fi
}

unz() { zstd -dcq 2>/dev/null || left_alone $? || unreadable; }
# True for the code of what was stopped (by SIGPIPE) because nobody reads on, or where that is known: who left it tells.
left_alone() { [ "$1" = 141 ] || [ ! -f "$W/taken" ]; }

# u NAME PACK OFFSET LENGTH: decompresses a blob to a file (unless it is there), c NAME OFFSET LENGTH: a part of it. Of one
# that is not whole nothing may come: tar would take what is in files for headers.
u() { [ -f "$W/b/$1" ] || blob "$@"; }
c() { ! wanted || cut_out "$W/b/$1" "$2" "$3" || left_alone $? || unreadable; }
# The same for blobs of which one is needed at a time.
u0() { blob 0 "$@"; }
blob() {
	{ get "$2" "$3" "$4" | unz; } >"$W/b/$1" || unreadable
	# What zstd could not write looks as if it could not read. Tried at once: later there may be room again.
	all_read || settled 1048576
}
c0() { c 0 "$1" "$2"; }
# drop NAME...: they are not needed any more. zeros COUNT: that many.
drop() { (cd "$W/b" && rm -f "$@"); }
zeros() { head -c "$1" /dev/zero; }
# exactly COUNT: so many bytes of standard input, followed by zeros if there are less. What of a piece is more than the
# repository says of it would else be a header to tar.
exactly() {
	{
		# (Who writes to us never sees a broken pipe.)
		cat 2>/dev/null || cat >/dev/null
		! wanted || cat /dev/zero 2>/dev/null
	} | head -c "$1"
}
# first COUNT: so many bytes of standard input, which is read to its end.
first() {
	head -c "$1"
	cat >/dev/null
}

# Runs the commands of a file written by awk.
run() {
	# shellcheck disable=SC1090
	[ ! -f "$W/$1" ] || . "$W/$1"
}

############################################################################################ snapshots

# $W/snapshots: "TIME ID ..." a line, by time; the last word is what it came after. Damaged ones are reported.
read_snapshots() {
	names_in snapshots | note snapshot.names
	settled
	refuse_unreadable "$W/snapshot.names"
	empty snapshot.bad
	# Also with --no-check: they are small, and which one is the latest hangs on them.
	if [ -n "$SHA" ]; then mismatched <"$W/snapshot.names" | note snapshot.bad; fi
	without "$W/snapshot.bad" "$W/snapshot.names" | note snapshot.good
	settled
	# shellcheck disable=SC2016,SC2033 # these are awk's
	(cd -P "$REPO" && xargs awk "$AWKLIB"'
	function text(v) { sub(/,$/, "", v); gsub(/^"|"$/, "", v); return v }
	function words(v) { sub(/,$/, "", v); gsub(/^\["?|"?\]$/, "", v); gsub(/","/, ", ", v); return v }
	{ gsub(/\t/, " ") }
	FNR == 1 { id = substr(FILENAME, 11); time = host = paths = tags = older = ""; errors = 0 }
	/^"time":/ { time = text(substr($0, 8)) }
	/^"host":/ { host = text(substr($0, 8)) }
	/^"paths":/ { paths = words(substr($0, 9)) }
	/^"tags":/ { tags = words(substr($0, 8)) }
	/^"parent":/ || /^"after":/ {
		sub(/^"[a-z]*":/, ""); gsub(/[^0-9a-f]+/, " "); older = older " " $0
	}
	/^"errors":/ { errors = gsub(/"error":"/, "") }
	/^}/ {
		# Fractions of a second in full, so that times sort.
		sub(/Z$/, "", time); if (time !~ /\./) time = time "."
		time = substr(time "000000000", 1, 29)
		if (time !~ /^[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T/) next
		print time "\t" id "\t" shown(host) "\t" shown(paths) "\t" shown(tags) "\t" errors "\t" older
	}') <"$W/snapshot.good" | tr -d '\000-\010\013-\037\177' | sort | note snapshots
	settled
	# One that has no last line, or no time, is damaged, whatever its checksum.
	awk -F '\t' '!second { good["snapshots/" $2] = 1; next } !($0 in good)' \
		"$W/snapshots" second=1 "$W/snapshot.good" >>"$W/snapshot.bad" || no_room
	settled
	tell "damaged" "$W/snapshot.bad"
}

list() {
	temporary
	read_snapshots
	awk -F '\t' '{
		line = substr($2, 1, 8) "  " substr($1, 1, 10) " " substr($1, 12, 8) " UTC  " $3 "  " $4
		if ($5 != "") line = line "  [" $5 "]"
		print line
		if ($6) print "          " $6 " sources could not be read when it was made"
	}' "$W/snapshots"
	[ -s "$W/snapshots" ] || say "there is no readable snapshot in $REPO"
	[ -s "$W/snapshots" ] && [ ! -s "$W/snapshot.bad" ] || exit 4
}

is_id() {
	case $1 in
	*[!0-9a-f]*) return 1 ;;
	????*) return 0 ;;
	esac
	return 1
}

# True if a word is meant as a snapshot: `latest`, or hexadecimal and the beginning of an id.
is_snapshot() {
	[ "$1" = latest ] && return 0
	is_id "$1" || return 1
	for file in "$REPO/snapshots/$1"*; do
		[ -f "$file" ] && return 0
	done
	return 1
}

no_snapshot() {
	die 1 "there is no such snapshot (\`sh recover.sh list\` shows them):
  $1"
}

# Sets ID to the one snapshot that $1 means, and LAYERS to its lists.
open_snapshot() {
	read_snapshots
	if [ "$1" = latest ]; then
		# A clock may have been wrong: what another says it came after is not the latest, whatever its time.
		ID=$(awk -F '\t' '{ id[NR] = $2; n = split($7, o, " "); for (i = 1; i <= n; i++) older[o[i]] = 1 }
			END { for (i = NR; i && (id[i] in older); ) i--; if (i) print id[i] }' "$W/snapshots")
		[ -n "$ID" ] || die 4 "there is no readable snapshot in $REPO"
		awk -F '\t' '!second { n = split($7, o, " "); for (i = 1; i <= n; i++) older["snapshots/" o[i]] = 1; next }
			!($0 in older)' "$W/snapshots" second=1 "$W/snapshot.bad" | note snapshot.newer
		settled
		if [ -s "$W/snapshot.newer" ] && [ "$KEEP" = 0 ]; then
			die 4 "the damaged snapshot may be the latest. Name the one you want
(\`sh recover.sh list\` shows them); with --keep-going, latest is the latest
that is readable"
		fi
		[ ! -s "$W/snapshot.newer" ] || NEWER_LOST=1
	else
		found=$(awk -F '\t' -v id="$1" 'index($2, id) == 1 { print $2 }' "$W/snapshots")
		case $found in
		'')
			for file in "$REPO/snapshots/$1"*; do
				[ -f "$file" ] && die 4 "this snapshot is damaged; choose another
(\`sh recover.sh list\` shows them):
  $1"
			done
			no_snapshot "$1"
			;;
		*[!0-9a-f]*) die 2 "several ids begin with $1; give more of the id" ;;
		*) ID=$found ;;
		esac
	fi
	say "snapshot $(awk -F '\t' -v id="$ID" \
		'$2 == id { print substr(id, 1, 8) " of " substr($1, 1, 10) " " substr($1, 12, 8) " UTC: " $4 " on " $3
		if ($6) print $6 " sources could not be read when it was made; the line \"errors\" of" \
			"\n  snapshots/" id "\nnames them" }' \
		"$W/snapshots")"
	sed -n 's/^"paths":\[\(.*\)\],*$/\1/p' "$REPO/snapshots/$ID" | tr -d '\0' | note sources
	settled
	LAYERS=$(sed -n 's/^"layers":\[\(.*\)\],*$/\1/p' "$REPO/snapshots/$ID" | tr -cd '0-9a-f,' | tr ',' ' ')
	[ -n "$LAYERS" ] || die 4 "this snapshot names no content: its file is damaged. Choose another
(\`sh recover.sh list\` shows them)"
}

############################################################################################ the manifest

# Writes $W/pages.0 (the base), $W/pages.1, ...: the manifest of the snapshot, of each layer.
read_pages() {
	say "reading the manifest"
	carefully read_lists
	choose_pages
	carefully read_layers
	rm -f "$W"/list.*
}

# Writes $W/list.0, $W/list.1, ...: the pages of each layer.
read_lists() {
	layer=0
	empty wanted
	for id in $LAYERS; do
		printf '%s %s\n' "$layer" "$id" >>"$W/wanted" || no_room
		empty "list.$layer"
		layer=$((layer + 1))
	done
	LAST=$((layer - 1))
	export LAST
	locate "$W/wanted" "$W/found"
	[ ! -s "$W/lost" ] || die 4 "a list of what is in this snapshot lay in what is damaged or
missing above, so all of the snapshot would be lost. Nothing was written. Look
for another copy of that, or choose another snapshot; an older one may do
without that list (\`sh recover.sh list\` shows them)"
	while read -r layer pack offset length _; do
		get "$pack" "$offset" "$length" | unz >"$W/list.$layer"
	done <"$W/found"
	settled
}

# Writes $W/wanted.pages, lines "LAYER PAGE-ID ENTRIES<tab>FIRST<tab>NEXT": paths of the first entry of the page, and of
# the page behind it. Pages of the base that cannot hold the wanted path are left out.
choose_pages() {
	awk "$AWKLIB"'
	function want(first, next_first, any,  i) {
		for (i = 1; i <= points; i++) if (first <= point[i] && (any || point[i] < next_first)) return 1
		return index(first, point[1] "\001") == 1
	}
	BEGIN {
		wanted = W "/wanted.pages"
		printf "" > wanted
		if (ENVIRON["WANT"] != "") {
			p = ENVIRON["WANT"]
			do point[++points] = key(p); while ((p = parent_of(p)) != "")
		}
		for (layer = 0; layer <= ENVIRON["LAST"]; layer++) {
			n = 0; split("", path); split("", first)
			while ((getline l < (W "/list." layer)) > 0) {
				id[++n] = substr(l, 1, 64); rest = substr(l, 66); i = index(rest, " ")
				count[n] = substr(rest, 1, i - 1); path[n] = substr(rest, i + 1); first[n] = key(raw(path[n]))
				if (!is_id(id[n]) || !is_number(count[n]) || MALFORMED) die("a list of pages cannot be understood")
			}
			for (i = 1; i <= n; i++)
				if (!points || layer || want(first[i], first[i + 1], i == n))
					print layer, id[i], count[i] TAB path[i] TAB path[i + 1] > wanted
		}
	}' || exit 4
	settled
}

read_layers() {
	locate "$W/wanted.pages" "$W/found"
	note_lost_pages
	if [ -s "$W/lost" ] && [ "$KEEP" = 0 ]; then
		die 4 "what the manifest says of these paths lay in what is damaged
or missing above. Nothing was written. Look for another copy of that; or use
--keep-going to restore what is left; or choose another snapshot"
	fi
	layer=0
	while [ "$layer" -le "$LAST" ]; do
		# Neighbours in a pack are read in one go.
		awk -v layer="$layer" 'BEGIN { CONVFMT = OFMT = "%.0f" }
		function put() { if (pack != "") print "get " pack " " from " " to - from }
		$1 != layer { next }
		$2 != pack || $3 != to { put(); pack = $2; from = $3 + 0; to = from }
		{ to += $4 }
		END { put() }' "$W/found" | note ops
		settled
		empty "pages.$layer"
		[ ! -s "$W/ops" ] || run ops | unz >"$W/pages.$layer"
		settled
		layer=$((layer + 1))
	done
}

# Writes $W/holes, lines "LAYER<tab>FIRST<tab>NEXT" (NEXT is empty at the end), and the same as lines of $W/missing.
note_lost_pages() {
	awk '!second { lost[$1, $2] = 1; next }
		($1, $2) in lost { sub(/ [^\t]*/, ""); print }' "$W/lost" second=1 "$W/wanted.pages" | note holes
	awk '{ print "page " $0 }' "$W/holes" | note missing.pages
	note missing <"$W/missing.pages"
	settled
	awk -F '\t' '{
		print "lost: what the manifest says of paths from"
		print "    " $2
		print ($3 == "" ? "  to the end" : "  to before\n    " $3)
	}' "$W/holes" >&2
}

# Where a path from the root of the file system is in a snapshot: its file says where its sources lay, and its entries
# begin with what they were called, which may be the end of that. Where that is not certain, nothing is found.
PLACES='
# A path from the root without dots, as far as its letters tell; the root is nothing.
function clean(p,  n, part, i, m, t) {
	n = split(p, part, "/"); m = 0; t = ""
	for (i = 1; i <= n; i++) {
		if (part[i] == ".." && m) m--
		else if (part[i] != "" && part[i] != "." && part[i] != "..") part[++m] = part[i]
	}
	for (i = 1; i <= m; i++) t = t "/" part[i]
	return t
}
function lies_in(p, folder) { return p == folder || index(p, folder "/") == 1 }
# Reads what sources there were, and what they may have been called; true if the path lies in one.
function read_sources(  l, n, part, i, t, found) {
	whole = "/" ENVIRON["ASKED"]
	while ((getline l < (W "/sources")) > 0) {
		n = split(l, part, "\"")
		for (i = 2; i <= n; i += 2) {
			MALFORMED = 0; t = clean(raw(part[i]))
			if (MALFORMED) continue
			SOURCE[++sources] = t
			if (lies_in(whole, t)) found = 1
			while (t != "") { t = substr(t, 2); may_be_called(t); sub("^[^/]*", "", t) }
			may_be_called(".")
		}
	}
	return found
}
function may_be_called(name,  q) {
	NAME[sources, ++NAMES[sources]] = name
	for (q = name; q != ""; q = parent_of(q)) IS_ENTRY[key(q)] = 0
}
# Whether a source is called so: there is an entry, and none that it lies in.
function is_source(name,  q) {
	if (!IS_ENTRY[key(name)]) return 0
	if (name == ".") return 1
	for (q = parent_of(name); q != ""; q = parent_of(q)) if (IS_ENTRY[key(q)]) return 0
	return !IS_ENTRY[""]
}
function is_another(name, source,  i, j) {
	for (i = 1; i <= sources; i++) for (j = 1; SOURCE[i] != source && j <= NAMES[i]; j++) if (NAME[i, j] == name) return 1
	return 0
}
# Prints it, and a byte to cut off.
function print_place(  i, j, n, name, below) {
	for (i = 1; i <= sources; i++) {
		if (!lies_in(whole, SOURCE[i])) continue
		n = 0
		for (j = 1; j <= NAMES[i]; j++) if (is_source(NAME[i, j])) { n++; name = NAME[i, j] }
		if (n != 1 || is_another(name, SOURCE[i])) continue
		below = substr(whole, length(SOURCE[i]) + 2)
		if (name == ".") name = (below == "" ? "." : below)
		else if (below != "") name = name "/" below
		printf "%s.", name
		return
	}
}
'

# Merges the layers by path. With MODE=ls prints the paths; with MODE=place where $ASKED is (see above); with
# MODE=restore writes the plan:
#   dirs, top, special   what is not a regular file, and second names: TYPE PATH MODE UID GID MTIME LINK MAJOR MINOR
#   mkdirs               folders that are needed but have no entry
#   small, large         regular files, see below
#   blobs                NUMBER ID of every blob these need
#   attributes           PATH NAME VALUE of extended attributes that must be set by hand
#   attributes.spare     the same, should the record be lost that has them
#   hidden               paths of which a lost page may have told something newer
# To standard output it then writes figures. (They are what is compared at the end, so they are not kept on a disk.)
SELECT='
# PLACE[k]: bundle and offset of a record. Where the line tells no offset, it stands right behind the record before it.
function place(k, l,  i, at, size, here) {
	i = index(l, ",\"at\":[")
	if (!i) return
	at = substr(l, i + 7, 24); split(substr(at, 1, index(at, "]") - 1), AT, ",")
	# Before it stands the size, if it is a file.
	size = substr(l, i > 16 ? i - 16 : 1, i > 16 ? 16 : i - 1)
	size = match(size, /,"size":[0-9]+$/) ? substr(size, RSTART + 8) + 0 : 0
	here = k " " PAGES[k] " " AT[1]
	if (AT[2] == "") AT[2] = NEXT[here]
	PLACE[k] = AT[1] "," AT[2]
	NEXT[here] = AT[2] + 512 + pad(size)
}
# Reads the next entry of a layer.
function advance(k,  l, i, p, r) {
	while ((getline l < FILE[k]) > 0) {
		if (substr(l, 1, 9) != "{\"path\":\"") {
			if (substr(l, 1, 19) != "{\"page\":1,\"blobs\":[") die("a page of the manifest cannot be understood")
			HEAD[k] = l; PAGES[k]++
			HASHES[k] = (i = index(l, ",\"blake3\":\"")) ? substr(l, i + 11) : ""; FILES[k] = 0
			continue
		}
		p = substr(l, 10); i = index(p, "\""); p = substr(p, 1, i - 1)
		MALFORMED = 0
		r = raw(p)
		if (MALFORMED || (p != "." && ("/" p "/") ~ /\/\.?\.?\//) || p ~ CONTROL) die("the path " p " in the manifest is not allowed")
		r = key(r)
		if (LIVE[k] > 1 && r <= KEY[k]) die("the manifest is not sorted, near " p)
		LIVE[k] = 2; TEXT[k] = l; PATH[k] = p; KEY[k] = r
		place(k, l)
		l = substr(l, i + 19); TYPE[k] = substr(l, 1, index(l, "\"") - 1)
		if (TYPE[k] == "file") FILES[k]++
		return
	}
	LIVE[k] = 0
}
function covered(k, by) { return KEY[k] == CUT[by] || index(KEY[k], CUT[by] "\001") == 1 || CUT[by] == "" }
function cut_below(k) { if (!HAS_CUT[k] || !covered(k, k)) { HAS_CUT[k] = 1; CUT[k] = KEY[k] } }
# True if a lost page of a newer layer may have told something else of this path.
function unknown(k,  h) {
	for (h in HOLE_LAYER) {
		if (HOLE_NEXT[h] != "" && HOLE_NEXT[h] <= KEY[k]) delete HOLE_LAYER[h]
		else if (HOLE_LAYER[h] > k && HOLE_FIRST[h] <= KEY[k]) return 1
	}
	return 0
}
function read_holes(  l, f, h) {
	while ((getline l < (W "/holes")) > 0) {
		split(l, f, TAB); h++
		HOLE_LAYER[h] = f[1] + 0; HOLE_FIRST[h] = key(raw(f[2])); HOLE_NEXT[h] = key(raw(f[3]))
	}
}
function handle(k,  j) {
	for (j = k + 1; j <= LAST; j++) if (HAS_CUT[j] && covered(k, j)) return
	# It cuts also where a newer layer has lost what it may have told of this path.
	if (TYPE[k] == "gone-tree") cut_below(k)
	if (unknown(k)) {
		if (TYPE[k] !~ /^gone/ && (WANT == "" || KEY[k] == WANT || index(KEY[k], WANT "\001") == 1)) print PATH[k] > HIDDEN
		return
	}
	if (TYPE[k] ~ /^gone/) return
	if (TYPE[k] != "dir") {
		cut_below(k)
		# Nothing is below what is not a folder. This, and that links are made last, keeps all writing inside TARGET.
		if (HAS_LEAF && index(KEY[k], LEAF "\001") == 1) die("the path " PATH[k] " lies below a file")
		HAS_LEAF = 1; LEAF = KEY[k]
	} else if (HAS_LEAF && index(KEY[k], LEAF "\001") == 1) die("the path " PATH[k] " lies below a file")
	if (MODE == "place") { if (KEY[k] in IS_ENTRY) IS_ENTRY[KEY[k]] = 1; return }
	if (WANT != "" && KEY[k] != WANT && index(KEY[k], WANT "\001") != 1) {
		if (MODE == "ls" || TYPE[k] != "dir" || index(WANT, KEY[k] "\001") != 1) return
	} else hits++
	if (MODE == "ls") print shown(PATH[k]) (TYPE[k] == "dir" ? "/" : ""); else plan(k)
}
# The number of the i-th blob that a page names.
function blob(k, i,  id) {
	id = substr(HEAD[k], 21 + 67 * i, 64)
	if (!(id in NUMBER)) {
		if (!is_id(id) || substr(HEAD[k], 85 + 67 * i, 1) != "\"") die("a page of the manifest cannot be understood, near " PATH[k])
		NUMBER[id] = ++numbers; ID[numbers] = id
	}
	return NUMBER[id]
}
function need(k, i,  n) { n = blob(k, i); NEED[n] = 1; return n }
# Some bits of the BLAKE3 of the current file of a layer, two a digit. (The n-th begins after 128 n such digits of the
# base64 in the header line, and a character of that is three of them.)
function hash_of(k,  n, at, i, t) {
	if (TYPE[k] != "file") return ""
	n = 128 * (FILES[k] - 1); at = int(n / 3); t = ""
	for (i = 1; i <= 18; i++) t = t THREE[substr(HASHES[k], at + i, 1)]
	return substr(t, n % 3 + 1, 50)
}
# What makes two names one file. A file that changed between the reading of its names is there once for each thing that
# is said of it. (The number of names and the time of change say nothing: a new name changes them.)
function file_of(k, at, to,  t, i) {
	t = number_of(S["device"]) ":" number_of(S["inode"]) ":" TYPE[k] " " S["mode"]
	t = t " " number_of(S["uid"]) " " number_of(S["gid"]) " " substr(S["mtime"], 3, index(S["mtime"], "]") - 3)
	t = t " " number_of(S["size"]) " " hash_of(k) " " S["target"] " " S["rdev"]
	for (i = at; at && i < to; i++) t = t " " F[i]
	return t
}
# The digits of a value, as they stand (they may be more than a double holds).
function number_of(v) { sub(/^:/, "", v); sub(/[^0-9].*/, "", v); return v }
function plan(k,  n, i, f, v, p, t, parent, q, link, xattrs, odd, parts, flag) {
	n = split(TEXT[k], F, "\"")
	split("", S); xattrs = caps = ""
	for (i = 10; i < n;) {
		f = F[i]; v = F[i + 1]
		if (v == ":") { S[f] = F[i + 2]; i += 4 }
		else if (f == "was") { S[f] = F[i + 2] substr(TEXT[k], 10 + substr(v, 3), length(PATH[k]) - substr(v, 3)); i += 4 }
		else if (v == ":{") { xattrs = i + 2; for (i += 4; F[i + 1] == ","; i += 4); xattrs_end = i + 1; i += 2 }
		else { S[f] = v; i += 2 }
	}
	p = PATH[k]; t = TYPE[k]
	mode = S["mode"]; uid = substr(S["uid"], 2) + 0; gid = substr(S["gid"], 2) + 0; mtime = substr(S["mtime"], 3) + 0
	if (mode == "" || mode ~ /[^0-7]/ || length(mode) > 4) die("the manifest cannot be understood, near " p)
	if (index(p "/", ENVIRON["SCRATCH"] "/") == 1) die("the snapshot has a path named " p)
	# Without its owner a file would lend the rights of who restores it to whoever runs it.
	if (!ROOT && length(mode) == 4 && substr(mode, 1, 1) > 1 && uid ":" gid != OWN) {
		mode = substr(mode, 1, 1) % 2 substr(mode, 2)
		if (t == "file") S["restamp"] = "true"
	}
	if (PLAIN && is_left_out(xattrs)) attributed++
	if (t != "dir" && (t == "char" || t == "block") && !ROOT) { devices++; return }
	expected++; if (index(p, "%0A")) expected += gsub(/%0A/, "%0A", p)
	if (p != ".") {
		parent = parent_of(p)
		if (parent != last_parent) {
			last_parent = parent
			for (q = parent; q != "" && !(q in DIR); q = parent_of(q)) {
				DIR[q] = 1; expected++; if (index(q, "%0A")) expected += gsub(/%0A/, "%0A", q)
				print q > MKDIRS
			}
		}
	}
	odd = (xattrs != "") || uid > 2097151 || gid > 2097151 || mtime < 0 || mtime > 8589934591 || ("restamp" in S)
	if (t == "dir") {
		dirs++
		DIR[p] = 1
		print 5, p, mode, uid, gid, mtime > (p == "." ? TOP : DIRS)
		if (xattrs == "") return
		if (length(p) > LIMIT) set_by_hand(k, p, xattrs, 0, ATTRIBUTES)
		else if (!PLAIN) { small(k, 3, "x", 0, 1, p, "", 5); set_by_hand(k, p, xattrs, 0, SPARE) }
		return
	}
	if ("links" in S && number_of(S["links"]) != 1) {
		link = file_of(k, xattrs, xattrs_end)
		if (link in FIRST) { links++; print 1, p, 0, 0, 0, 0, FIRST[link] > SPECIAL; return }
		FIRST[link] = p
	}
	if (t == "file") {
		files++; bytes += number_of(S["size"])
		was = ("was" in S) ? S["was"] : ""
		if (was != "") {
			MALFORMED = 0; raw(was)
			if (MALFORMED || ("/" was "/") ~ /\/\.?\.?\// || was ~ CONTROL) die("the path " was " in the manifest is not allowed")
		}
		q = was == "" ? p : was
		if (length(p) > LIMIT || length(was) > LIMIT || ("restamp" in S)) set_by_hand(k, p, xattrs, length(p) <= LIMIT && length(was) <= LIMIT, ATTRIBUTES)
		if ("at" in S) small(k, was == "" ? 0 : 1, "f", number_of(S["size"]), odd || length(q) > 99 || q ~ UNUSUAL, p, was, 0)
		else { large(k, p); if (!PLAIN) set_by_hand(k, p, xattrs, 0, SPARE) }
		return
	}
	others++
	flag = t == "symlink" ? 2 : t == "char" ? 3 : t == "block" ? 4 : 6
	if (xattrs != "" && length(p) > LIMIT) set_by_hand(k, p, xattrs, 0, ATTRIBUTES)
	else if (xattrs != "" && !PLAIN) { small(k, 4, "y", 0, 1, p, "", flag); return }
	split("", parts)
	if (t == "symlink") print 2, p, mode, uid, gid, mtime, S["target"] > SPECIAL
	else if (t == "fifo") print 6, p, mode, uid, gid, mtime > SPECIAL
	else if (t == "char" || t == "block") {
		split(substr(S["rdev"], 3), parts, /[],]/)
		print flag, p, mode, uid, gid, mtime, "", parts[1] + 0, parts[2] + 0 > SPECIAL
	} else die("the manifest has an entry of unknown type " t ": " p)
	# A tar could not write one that is too long.
	if (length(p) <= LIMIT) small(k, 2, "o", 0, 1, p, "", flag)
}
# A line for a record in a bundle, sorted by place:
#   KEY KIND SIZE ODD PATH WAS MODE UID GID MTIME RESTAMP BLOB OFFSET FLAG TARGET
# KIND: f a file; x a folder with attributes, y something else with attributes; o something else without, which
# needs no record and is only taken along where it stands between files. FLAG is the type as tar has it.
function small(k, rank, kind, size, odd, p, was, flag,  at) {
	split(PLACE[k], at, ",")
	again = ("restamp" in S) ? 1 : 0
	if (!is_number(at[1]) || !is_number(at[2])) die("the manifest cannot be understood, near " p)
	at[1] = kind == "o" ? blob(k, at[1]) : need(k, at[1])
	print sprintf("%08d %08d %d", at[1], at[2], rank), kind, size, odd, p, was, mode, uid, gid, mtime, again, at[1], at[2], flag, (flag == 2 ? S["target"] : "") > SMALL
}
# Lines for a large file: L PATH WAS MODE UID GID MTIME RESTAMP SIZE STORED HEAD SPARSE, then a line a piece:
# p BLOB OFFSET LENGTH (or p BLOB for a whole one), and s OFFSET LENGTH for segments of data between holes.
function large(k, p,  v, n, i, stored, sparse, head) {
	stored = number_of(S["size"]); sparse = 0
	if ("map" in S) {
		v = S["map"]; gsub(/[]:}[]/, "", v); n = split(v, SEG, ","); stored = 0; sparse = 1
		for (i = 2; i <= n; i += 2) stored += SEG[i]
	}
	again = ("restamp" in S) ? 1 : 0
	head = need(k, number_of(S["head"]) + 0)
	print "L", p, was, mode, uid, gid, mtime, again, number_of(S["size"]), stored, head, sparse > LARGE
	if ("chunks" in S) {
		v = S["chunks"]; gsub(/[]:}[]/, "", v); n = split(v, PART, ",")
		for (i = 1; i <= n; i++) if (PART[i] != "") print "p", need(k, PART[i] + 0) > LARGE
	} else {
		v = S["extents"]; gsub(/[]:}[]/, "", v); n = split(v, PART, ",")
		for (i = 1; i + 2 <= n; i += 3) print "p", need(k, PART[i] + 0), PART[i + 1], PART[i + 2] > LARGE
	}
	if (sparse) { v = S["map"]; gsub(/[]:}[]/, "", v); n = split(v, PART, ","); for (i = 1; i + 1 <= n; i += 2) print "s", PART[i], PART[i + 1] > LARGE }
}
# True if there are attributes that another tar would restore for this user.
function is_left_out(at) {
	for (; at != ""; at += 4) {
		if (ROOT || F[at] ~ /^(user[.]|system[.]posix_acl_)/) return 1
		if (F[at + 3] != ",") return 0
	}
	return 0
}
# Notes attributes: those that tar cannot set here, or that chown will take away; or spare ones, in case the blob is
# lost that has them in a record.
function set_by_hand(k, p, at, caps_only, file,  n) {
	if (at == "") return
	n = split(TEXT[k], F, "\"")
	for (; at < n; at += 4) {
		if (!caps_only || F[at] == "security.capability") print p, F[at], F[at + 2] > file
		if (F[at + 3] != ",") return
	}
}
BEGIN {
	MODE = ENVIRON["MODE"]; LAST = ENVIRON["LAST"] + 0; ROOT = ENVIRON["ROOT"] + 0; PLAIN = ENVIRON["PLAIN"] + 0; OWN = ENVIRON["OWN"]
	LIMIT = ENVIRON["LIMIT"] + 0; WANT = ENVIRON["WANT"] == "" ? "" : key(ENVIRON["WANT"])
	CONTROL = "[\001-\037\177]"; UNUSUAL = "[^ -$&-~]"
	for (k = 0; k < 64; k++)
		THREE[substr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", k + 1, 1)] = int(k / 16) int(k / 4) % 4 k % 4
	OFS = TAB
	DIRS = W "/dirs"; TOP = W "/top"; MKDIRS = W "/mkdirs"; SPECIAL = W "/special"; SMALL = W "/small"; LARGE = W "/large"
	ATTRIBUTES = W "/attributes"; SPARE = W "/attributes.spare"; HIDDEN = W "/hidden"
	printf "" > HIDDEN
	if (MODE == "place") read_sources()
	read_holes()
	for (k = 0; k <= LAST; k++) { FILE[k] = W "/pages." k; LIVE[k] = 1; HAS_CUT[k] = 0; advance(k) }
	for (;;) {
		best = -1
		for (k = LAST; k >= 0; k--) if (LIVE[k] && (best < 0 || KEY[k] < KEY[best])) best = k
		if (best < 0) break
		handle(best)
		for (k = LAST; k >= 0; k--) if (k != best && LIVE[k] && KEY[k] == KEY[best]) {
			if (TYPE[k] == "gone-tree") cut_below(k)
			advance(k)
		}
		advance(best)
	}
	if (MODE == "place") { print_place(); exit }
	if (MODE == "restore") {
		for (n = 1; n <= numbers; n++) if (n in NEED) print n " " ID[n] > (W "/blobs")
		print files + 0, dirs + 0, links + 0, others + 0, bytes + 0, devices + 0, expected + 0, attributed + 0
	}
	if (!hits) exit 3
}
'

# select_entries MODE PATH: reads the manifest as far as PATH needs it and runs the program above.
select_entries() {
	MODE=$1 WANT=$2
	while :; do
		case $WANT in
		./?*) WANT=${WANT#./} ;;
		/*) WANT=${WANT#/} ;;
		*//*) WANT=${WANT%%//*}/${WANT#*//} ;;
		?*/) WANT=${WANT%/} ;;
		*) break ;;
		esac
	done
	[ "$WANT" != . ] || WANT=
	[ -n "$SHOWN" ] || SHOWN=$WANT
	export MODE WANT
	read_pages
	code=0
	if [ "$MODE" = ls ]; then
		awk "$AWKLIB$PLACES$SELECT" || code=$?
	else
		TOTALS=$(awk "$AWKLIB$PLACES$SELECT") || code=$?
	fi
	if [ "$code" = 3 ]; then
		[ -n "$WANT" ] || return 0
		if [ -z "$PLACED" ]; then
			find_place
			if [ -n "$PLACED" ]; then
				forget_plan
				select_entries "$1" "${PLACED%.}"
				return
			fi
		fi
		WANT=$ASKED PLACED=''
		# `ls` shows unusual bytes as %XX: perhaps the path was copied from there.
		plain=$(printf '%s' "$WANT" | awk "$AWKLIB"'{ t = raw($0); if (!MALFORMED && t != $0) printf "%s.", t }')
		[ -n "$plain" ] || nothing_there
		forget_plan
		select_entries "$1" "${plain%.}"
		return
	fi
	case $code in
	0) settled ;;
	4) exit 4 ;;
	1??) exit "$code" ;; # a signal, such as from `| head`
	*) die 1 "awk failed" ;;
	esac
}

# Sets PLACED to where WANT is if that is a path from the root, and elsewhere than it says.
find_place() {
	export ASKED
	ASKED=$WANT
	awk "$AWKLIB$PLACES"'BEGIN { exit read_sources() ? 0 : 3 }' || return 0
	MODE=place WANT=''
	read_pages
	PLACED=$(awk "$AWKLIB$PLACES$SELECT") || exit 4
	settled
	[ "$PLACED" != "$ASKED." ] || PLACED=''
}

# Removes what was planned of the folders around what is not there.
forget_plan() {
	for file in dirs top mkdirs special small large blobs attributes attributes.spare; do
		rm -f "$W/$file"
	done
}

nothing_there() {
	WANT=$SHOWN
	if [ -s "$W/missing" ]; then
		die 4 "there is no $WANT in what is left of the snapshot's manifest"
	fi
	[ -z "$TAKEN_FOR_TARGET" ] || say "recover.sh: no snapshot has the id
  $TAKEN_FOR_TARGET
so that was taken for TARGET, and what follows it for a PATH in the latest one"
	die 1 "there is no $WANT in the snapshot;
\`sh recover.sh ls ${ID%"${ID#????????}"}\` shows what there is"
}

ls_snapshot() {
	temporary
	open_snapshot "$1"
	read_index
	select_entries ls "$2"
	[ "$NEWER_LOST" = 0 ] || say "recover.sh: the damaged snapshot may be newer than this one"
	[ ! -s "$W/missing" ] && [ "$NEWER_LOST" = 0 ] || exit 4
}

############################################################################################ restore

# Which tar, and what it can do.
choose_tar() {
	TAR='' PLAIN=1
	for tar in ${RECOVER_TAR:-tar gtar gnutar bsdtar}; do
		command -v "$tar" >/dev/null || continue
		case $("$tar" --version 2>&1 | head -n 1) in
		*'GNU tar'*) kind=gnu ;;
		*bsdtar*) kind=bsd ;;
		*) kind=plain ;;
		esac
		case $kind,$TAR in
		plain,?*) continue ;;
		esac
		TAR=$tar KIND=$kind
		[ "$kind" = plain ] || break
	done
	[ -n "$TAR" ] || die 1 "tar is not installed; install it, then run this again"
	ROOT=0
	[ "$(id -u)" != 0 ] || ROOT=1
	OWN=$(id -u):$(id -g)
	[ "$KIND" = plain ] || PLAIN=0
	# PLAIN_FLAGS are for headers made here, TAR_FLAGS for records that may bring attributes along.
	PLAIN_FLAGS='-xp --numeric-owner' ATTRIBUTE_FLAGS='' TAR_LOCALE=C
	case $KIND in
	gnu)
		PLAIN_FLAGS="$PLAIN_FLAGS --warning=no-timestamp"
		[ "$ROOT" = 1 ] || PLAIN_FLAGS="$PLAIN_FLAGS --no-same-owner"
		include='*'
		[ "$ROOT" = 1 ] || include='user.*'
		help=$("$TAR" --help)
		case $help in
		*--xattrs-include*) ATTRIBUTE_FLAGS="--xattrs --xattrs-include=$include" ;;
		*) say "recover.sh: this tar is too old to restore extended attributes" ;;
		esac
		case $help in
		*--acls*) ATTRIBUTE_FLAGS="$ATTRIBUTE_FLAGS --acls" ;;
		esac
		;;
	bsd)
		[ "$ROOT" = 1 ] || PLAIN_FLAGS="$PLAIN_FLAGS -o"
		# It takes `c:` and `\` away from where names begin, so that one would be written as another.
		PLAIN_FLAGS="$PLAIN_FLAGS -s ,^,./,S"
		# It wants a UTF-8 locale to read names.
		for TAR_LOCALE in C.UTF-8 en_US.UTF-8 C; do
			case $(LC_ALL=$TAR_LOCALE locale charmap 2>/dev/null) in
			UTF-8) break ;;
			esac
		done
		;;
	plain)
		zeros 1024 | "$TAR" -x --numeric-owner -f - 2>/dev/null || PLAIN_FLAGS=-xp
		[ "$ROOT" = 1 ] || PLAIN_FLAGS="$PLAIN_FLAGS -o"
		;;
	esac
	TAR_FLAGS="$PLAIN_FLAGS $ATTRIBUTE_FLAGS"
	HARD_LINKS=0
	ln "$W/probe" "$W/probe2" 2>/dev/null && rm -f "$W/probe2" && HARD_LINKS=1
	[ "$HARD_LINKS" = 1 ] || say "recover.sh: this file system has no links; what needs them is reported"
	# What prints the size of files, a line each.
	SIZES='ls_sizes'
	for sizes in 'stat -c %s' 'stat -f %z'; do
		[ "$($sizes "$W/probe" 2>/dev/null)" != 8 ] || SIZES=$sizes
	done
	export ROOT PLAIN OWN
	[ "$ROOT" = 1 ] || say "recover.sh: not run as root, so owners are not restored"
	[ "$(find "$W/probe" -type f -links 1 2>/dev/null)" ] || die 1 "this find knows no -links; install findutils"
}

# Extracts a tar stream into the current folder.
untar() {
	set -f
	# shellcheck disable=SC2086 # the flags are words
	if [ "$KIND" = bsd ]; then
		# It complains of names that are not UTF-8, and extracts them all the same; and of attributes for root only.
		{
			LC_ALL=$TAR_LOCALE "$TAR" ${1:-$TAR_FLAGS} -f - 2>&1 >&3
			take_the_rest
		} 3>/dev/null | tr -d '\0' |
			awk '/converted from UTF-8|Error exit delayed/ { next } { print } !/Cannot restore extended/ { n++ } END { if (n) exit 5 }' >&2
	else
		(
			umask 0
			LC_ALL=$TAR_LOCALE "$TAR" ${1:-$TAR_FLAGS} -f -
			code=$?
			take_the_rest
			exit "$code"
		)
	fi || fail "$TAR reported errors (see above)"
	set +f
}

# For a tar that ended before its input did, such as for want of room: lets who writes to it end too. Where SIGPIPE is
# ignored they would else fail, and what they read be taken for damaged.
take_the_rest() {
	rm -f "$W/taken"
	cat >/dev/null
	empty taken
}

# Reads the located blobs and the plan of the files. With STEP=inspect prints what the headers of the records must say
# (see `inspect`), with STEP=write writes the commands that put the files together, and prints how many scratch folders
# these need, how many records do not fit the manifest, how many files will be there, and how many are lost:
#   ops.0 (a tar stream for TARGET), ops.1 ... (for scratch folders), ops.x and ops.y (folders and specials with
#   attributes), ops.m (files by hand), ops.t (holes at the end of files), moved, copies (TYPE PATH ... LINK),
#   restamp (MODE UID GID MTIME PATH), expected (SIZE PATH of each file), missing
BUNDLES='
function missing(p) { print "path " p >> MISSING }
function expect(size, p) { print size, p > EXPECTED; planned++ }
# Scratch folders: the first in which this path is free, so that old names never meet.
function root_for(p,  r, q) {
	for (r = 1;; r++) {
		if ((r, p) in TAKEN || (r, p) in ABOVE) continue
		if ((r, parent_of(p)) in ABOVE) break
		for (q = parent_of(p); q != ""; q = parent_of(q)) if ((r, q) in TAKEN) break
		if (q == "") break
	}
	TAKEN[r, p] = 1
	for (q = parent_of(p); q != "" && !((r, q) in ABOVE); q = parent_of(q)) ABOVE[r, q] = 1
	if (r > roots) roots = r
	return r
}
# Whole frames of a stream are joined, and neighbours in a pack read in one go.
function whole(s, n) {
	if (!(s in OPEN)) { print "{" > (W "/ops." s); OPEN[s] = 1; PACKED[s] = "" }
	if (PACKED[s] == PACK[n] && TO[s] == OFFSET[n]) { TO[s] += LENGTH[n]; return }
	put_range(s)
	PACKED[s] = PACK[n]; FROM[s] = OFFSET[n]; TO[s] = OFFSET[n] + LENGTH[n]
}
function put_range(s) { if (PACKED[s] != "") print "get " PACKED[s] " " FROM[s] " " TO[s] - FROM[s] > (W "/ops." s); PACKED[s] = "" }
function close_group(s) {
	if (!(s in OPEN)) return
	put_range(s)
	print "} | unz" > (W "/ops." s)
	delete OPEN[s]
}
function is_simple(p) { return length(p) <= 100 && p !~ UNUSUAL }
function restamp(p, mode, uid, gid, mtime) { print mode, uid, gid, mtime, p > RESTAMP }
# Where a command puts what it reads.
function into(p,  r) { r = raw(p); return length(r) > LIMIT ? " | deep " quoted(r) " into" : " >" quoted("./" r) }
function by_hand(p) { return length(p) > LIMIT }

# One bundle: records 1..count, each with its lines. Records are numbered over all bundles and heads, and in both steps
# alike: what `inspect` found out is of one record at one place, for one purpose.
function bundle(  i, j, s, known, streams, size, gap, first, content, count, l, last, pax) {
	known = n in PACK
	for (i = 1; i <= records; i++) {
		gap = (i < records ? AT[i + 1] : FULL[n]) - AT[i]
		records_seen++
		if (STEP == "inspect") {
			last = ""
			for (j = 1; known && j <= LINES[i]; j++) {
				l = records_seen TAB n TAB AT[i] TAB KIND[i, j] TAB SIZE[i] TAB (WAS[i, j] == "" ? P[i, j] : WAS[i, j]) TAB FLAG[i, j] TAB LINK[i, j]
				if (l != last) print l
				last = l
			}
			continue
		}
		OK[i] = known && (records_seen in PAX)
		pax = OK[i] ? PAX[records_seen] : 0
		LEN[i] = size = pad(SIZE[i]) + 512 + pax
		if (gap < size) OK[i] = 0
		if (!OK[i]) for (j = 1; j <= LINES[i]; j++) {
			if (KIND[i, j] == "f") lost_files++
			if (KIND[i, j] == "x") print "attributes " P[i, j] >> MISSING
			else if (KIND[i, j] != "o") missing(P[i, j])
		}
		if (known && !OK[i]) bad_records++
		if (!OK[i]) continue
		content = AT[i] + size - pad(SIZE[i])
		first = 0
		for (j = 1; j <= LINES[i]; j++) {
			if (KIND[i, j] == "f") expect(SIZE[i], P[i, j])
			if (KIND[i, j] == "o") GO[i, 0] = GO[i, 0] + 0
			else if (KIND[i, j] != "f") { GO[i, KIND[i, j]] = 1; streams = streams " " KIND[i, j] }
			else if (by_hand(P[i, j]) || by_hand(WAS[i, j]) || (PLAIN && pax > 0 && !is_simple(WAS[i, j] == "" ? P[i, j] : WAS[i, j]))) {
				if (n != HAND) { print "u0 " PACK[n] " " OFFSET[n] " " LENGTH[n] > (W "/ops.m"); HAND = n }
				print "c0 " content " " SIZE[i] into(P[i, j]) > (W "/ops.m")
				restamp(P[i, j], M[i, j], U[i, j], G[i, j], T[i, j])
			} else {
				if (R[i, j] || (PLAIN && pax > 0)) restamp(P[i, j], M[i, j], U[i, j], G[i, j], T[i, j])
				if (first) { print "F", P[i, j], 777, 0, 0, 0, P[i, first] > COPIES; continue }
				first = j
				if (WAS[i, j] == "") { GO[i, 0] = 1; streams = streams " 0" }
				else {
					s = root_for(WAS[i, j]); GO[i, s] = 1; streams = streams " " s
					print 1, "tree/" P[i, j], 0, 0, 0, 0, "s" s "/" WAS[i, j] > MOVED
				}
			}
		}
	}
	if (STEP == "write" && known) {
		count = split(streams, STREAM, " "); split("", DONE)
		for (i = 1; i <= count; i++) if (!(STREAM[i] in DONE)) { DONE[STREAM[i]] = 1; runs(STREAM[i]) }
	}
	records = 0; split("", GO); split("", LINES)
}
# The runs of records of this bundle that go to stream s.
function runs(s,  i, n_runs, end) {
	n_runs = 0; end = -1
	for (i = 1; i <= records; i++) {
		if (!((i, s) in GO)) continue
		if (AT[i] != end) { RUN_FROM[++n_runs] = AT[i]; RUN_NEED[n_runs] = 0 }
		end = RUN_TO[n_runs] = AT[i] + LEN[i]
		if (GO[i, s]) RUN_NEED[n_runs] = 1
	}
	if (n_runs == 1 && RUN_FROM[1] == 0 && RUN_TO[1] == FULL[n]) { whole(s, n); return }
	close_group(s)
	print "u0 " PACK[n] " " OFFSET[n] " " LENGTH[n] > (W "/ops." s)
	for (i = 1; i <= n_runs; i++) if (RUN_NEED[i]) print "c0 " RUN_FROM[i] " " RUN_TO[i] - RUN_FROM[i] > (W "/ops." s)
}
# One large file: its line in BIG, its pieces in PB (blob), PO (offset), PL (length; "" for all).
function large_file(  i, s, hand, left, p, was, size, stored, head, ok, uses, has_head) {
	p = BIG[2]; was = BIG[3]; size = BIG[9] + 0; stored = BIG[10] + 0; head = BIG[11]
	records_seen++
	if (STEP == "inspect") {
		if (!(head in PACK)) return
		printf "%s", records_seen TAB head TAB 0 TAB "h" TAB stored TAB (was == "" ? p : was) TAB (BIG[12] ? "sparse" : 0) TAB size TAB
		if (BIG[12]) {
			ok = SO[segments] + SL[segments] < size
			printf "%s", segments + ok
			for (i = 1; i <= segments; i++) printf ",%s,%s", SO[i], SL[i]
			if (ok) printf ",%s,0", size
		}
		print ""
		return
	}
	# The page says all that the head does.
	has_head = (head in PACK) && (records_seen in PAX)
	ok = 1
	for (i = 1; i <= pieces; i++) if (!(PB[i] in PACK)) ok = 0
	left = stored
	for (i = 1; ok && i <= pieces; i++) {
		if (PL[i] == "") { PO[i] = 0; PL[i] = left < FULL[PB[i]] ? left : FULL[PB[i]] }
		if (PO[i] + PL[i] > FULL[PB[i]]) left = -1
		left -= PL[i]
	}
	if (!ok || left != 0) { if (ok) bad_records++; lost_files++; missing(p); return }
	if ((head in PACK) && !has_head) bad_records++
	expect(size, p)
	padding = pad(stored) - stored
	hand = !has_head || by_hand(p) || by_hand(was) || (PLAIN && (BIG[12] || (FULL[head] > 512 && (size >= 8589934592 || !is_simple(was == "" ? p : was)))))
	if (!has_head) print "attributes " p >> MISSING
	if (hand || BIG[8] || (PLAIN && FULL[head] > 512)) restamp(p, BIG[4], BIG[5], BIG[6], BIG[7])
	if (hand) { s = "m"; print "{ :" > (W "/ops.m") }
	else if (was == "") s = 0
	else { s = root_for(was); print 1, "tree/" p, 0, 0, 0, 0, "s" s "/" was > MOVED }
	if (!hand) { whole(s, head); close_group(s); print "{ :" > (W "/ops." s) }
	split("", uses)
	for (i = 1; i <= pieces; i++) if (!is_whole(i)) uses[PB[i]] = i
	for (i = 1; i <= pieces; i++) {
		if (is_whole(i)) { whole(s, PB[i]); continue }
		close_group(s)
		print "u " PB[i] " " PACK[PB[i]] " " OFFSET[PB[i]] " " LENGTH[PB[i]] > (W "/ops." s)
		print "c " PB[i] " " PO[i] " " PL[i] > (W "/ops." s)
		if (uses[PB[i]] == i) print "drop " PB[i] > (W "/ops." s)
	}
	if (!hand) {
		close_group(s)
		print "} | exactly " pad(stored) > (W "/ops." s)
		# Not every tar makes the hole at the end of a file.
		if (BIG[12] && SO[segments] + SL[segments] < size) {
			print "PLACE=" quoted(raw(p)) "; holes " size > (W "/ops.t")
			if (!BIG[8]) restamp(p, BIG[4], BIG[5], BIG[6], BIG[7])
		}
		return
	}
	close_group(s)
	if (!BIG[12]) { print "} | first " size into(p) > (W "/ops.m"); return }
	print "} | ( enter " quoted(raw(p)) "; holes " size > (W "/ops.m")
	for (i = 1; i <= segments; i++) if (SL[i] > 0) print "segment " SO[i] " " SL[i] > (W "/ops.m")
	print "cat >/dev/null; leave )" > (W "/ops.m")
}
# True if a piece is all of its blob. The zeros at the end of a last chunk are those that tar wants there.
function is_whole(i) { return PO[i] == 0 && (PL[i] == FULL[PB[i]] || (i == pieces && PL[i] + padding == FULL[PB[i]])) }
BEGIN {
	FS = OFS = TAB; STEP = ENVIRON["STEP"]; PLAIN = ENVIRON["PLAIN"] + 0; LIMIT = ENVIRON["LIMIT"] + 0
	UNUSUAL = "[^ -$&-~]"
	MISSING = W "/missing"; COPIES = W "/copies"; MOVED = W "/moved"; RESTAMP = W "/restamp"; EXPECTED = W "/expected"
	n = 0
	while ((getline l < (W "/found")) > 0) {
		split(l, p, " "); PACK[p[1]] = p[2]; OFFSET[p[1]] = p[3] + 0; LENGTH[p[1]] = p[4] + 0; FULL[p[1]] = p[5] + 0
	}
	while ((getline l < (W "/pax")) > 0) { split(l, p, " "); PAX[p[1]] = p[2] + 0 }
	while ((getline l < (W "/small.sorted")) > 0) {
		split(l, f, TAB); m = f[12] + 0; at = f[13] + 0
		if (m != n) { if (n) bundle(); n = m; records = 0 }
		if (!records || AT[records] != at) { AT[++records] = at; SIZE[records] = f[3] + 0; ODD[records] = f[4] + 0; LINES[records] = 0 }
		i = records; j = ++LINES[i]
		if (f[4] + 0) ODD[i] = 1
		KIND[i, j] = f[2]; P[i, j] = f[5]; WAS[i, j] = f[6]
		if (STEP == "inspect") { FLAG[i, j] = f[14]; LINK[i, j] = f[15]; continue }
		M[i, j] = f[7]; U[i, j] = f[8]; G[i, j] = f[9]; T[i, j] = f[10]; R[i, j] = f[11] + 0
	}
	if (n) bundle()
	while ((getline l < (W "/large")) > 0) {
		m = split(l, f, TAB)
		if (f[1] == "L") { if (big) large_file(); big = split(l, BIG, TAB); pieces = segments = SO[0] = SL[0] = 0 }
		else if (f[1] == "p") { PB[++pieces] = f[2]; PO[pieces] = f[3] + 0; PL[pieces] = f[4] == "" ? "" : f[4] + 0 }
		else { SO[++segments] = f[2] + 0; SL[segments] = f[3] + 0 }
	}
	if (big) large_file()
	if (STEP == "write") {
		for (s in OPEN) { put_range(s); print "} | unz" > (W "/ops." s) }
		print roots + 0, bad_records + 0, planned + 0, lost_files + 0
	}
}
'

# Makes tar headers: TYPE PATH MODE UID GID MTIME LINK MAJOR MINOR -> printf commands. Names longer than ustar holds
# come as GNU long names, numbers as base-256, so every tar reads them. Type F is a symlink to a path beside it.
# They go to headers.1, headers.2, ..., which are not long, because busybox tar takes much time for many links.
# Paths that are too long for any tar go to deep.sh.
HEADERS='
# Text for printf %b in single quotes; SUM grows by its bytes.
function text(s,  t, i, ch) {
	t = ""
	for (i = 1; i <= length(s); i++) { ch = substr(s, i, 1); SUM += ORD[ch]; t = t ESC[ch] }
	return t
}
function path_text(p,  d) {
	d = p; if (!sub("[^/]+/?$", "", d) || d == "") return text(p)
	if (d != LAST_DIR) { SUM0 = SUM; SUM = 0; LAST_DIR = d; LAST_TEXT = text(d); LAST_SUM = SUM; SUM = SUM0 }
	SUM += LAST_SUM
	return LAST_TEXT text(substr(p, length(d) + 1))
}
function nuls(n) { return n > 0 ? substr(NULS, 1, 2 * n - 2) "\\0000" : "" }
# An octal field of w digits and a NUL, or base-256 in two complement.
function number(v, w,  t, i, b) {
	t = ""
	if (v >= 0 && v < (w == 7 ? 2097152 : 8589934592)) {
		for (i = 0; i < w; i++) { b = v % 8; t = b t; SUM += 48 + b; v = (v - b) / 8 }
		return t "\\0000"
	}
	for (i = 0; i < w; i++) { b = v % 256; if (b < 0) b += 256; t = sprintf("\\0%03o", b) t; SUM += b; v = (v - b) / 256 }
	b = v < 0 ? 255 : 128
	SUM += b
	return sprintf("\\0%03o", b) t
}
function block(name, mode, uid, gid, size, mtime, type, link, major, minor,  a, z) {
	SUM = 8 * 32
	a = path_text(name) nuls(100 - length(name)) number(mode, 7) number(uid, 7) number(gid, 7) number(size, 11) number(mtime, 11)
	z = type text(link) nuls(100 - length(link)) "ustar  \\0"
	SUM += ORD[type ""] + USTAR
	z = z nuls(64)
	if (type == 3 || type == 4) z = z number(major, 7) number(minor, 7); else z = z nuls(16)
	z = z nuls(167)
	return a octal6(SUM) "\\0 " z
}
function octal6(v,  t, i) { t = ""; for (i = 0; i < 6; i++) { t = v % 8 t; v = int(v / 8) } return t }
function long_name(type, s) {
	print "printf %b " Q block("././@LongLink", 0, 0, 0, length(s) + 1, 0, type, "", 0, 0) Q > PART
	print "printf %b " Q text(s) nuls(1 + (512 - (length(s) + 1) % 512) % 512) Q > PART
}
function deep(command, r) { print "deep " quoted(r) " " command " || not_set" >> DEEP }
function header(l,  f, p, r, link, type) {
	split(l, f, TAB)
	type = f[1]; p = f[2]; r = raw(p); link = raw(f[7])
	if (type == "F") { type = 2; link = ENVIRON["TREE"] "/" link }
	if (length(r) > LIMIT || (type == 1 && length(link) > LIMIT)) { deep_entry(type, r, f, link); return }
	if (count++ % 5000 == 0) {
		if (PART != "") close(PART)
		PART = W "/headers." ++parts
	}
	if (type == 5) r = r "/"
	if (length(r) > 100) { long_name("L", r); r = "long" }
	if (length(link) > 100) { long_name("K", link); link = "long" }
	print "printf %b " Q block(r, octal_value(f[3]), f[4] + 0, f[5] + 0, 0, f[6] + 0, type, link, f[8] + 0, f[9] + 0) Q > PART
}
function octal_value(s,  v, i) { v = 0; for (i = 1; i <= length(s); i++) v = v * 8 + substr(s, i, 1); return v }
function deep_entry(type, r, f, link,  s) {
	if (type == 1) { print "deep_link " quoted(link) " " quoted(r) " || not_set" >> DEEP; return }
	if (type == 2) deep("ln -s -- " quoted(link), r)
	else if (type == 6) deep("mkfifo", r)
	else if (type == 3 || type == 4) deep("make_node " (type == 3 ? "c " : "b ") f[8] " " f[9], r)
	if (ENVIRON["ROOT"] == 1) deep("chown -h " f[4] ":" f[5], r)
	if (type == 2) { deep("touch -h -t " stamp(f[6] + 0), r); return }
	deep("chmod " f[3], r)
	deep("touch -t " stamp(f[6] + 0), r)
}
BEGIN {
	for (i = 1; i < 256; i++) { ch = sprintf("%c", i); ORD[ch] = i; ESC[ch] = sprintf("\\0%03o", i) }
	SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _./+,:=@~-"
	for (i = 1; i <= length(SAFE); i++) { ch = substr(SAFE, i, 1); ESC[ch] = ch }
	NULS = "\\0"; while (length(NULS) < 1100) NULS = NULS NULS
	USTAR = 0; ch = "ustar  "; for (i = 1; i <= 7; i++) USTAR += ORD[substr(ch, i, 1)]
	LIMIT = ENVIRON["LIMIT"] + 0; DEEP = W "/deep.sh"
	if (ENVIRON["REVERSE"] == 1) {
		while ((getline l) > 0) LINES[++n] = l
		for (; n > 0; n--) header(LINES[n])
	} else while ((getline l) > 0) header(l)
}
'

# Seconds since 1970 as touch -t wants them (the zone is UTC).
STAMPS='
function stamp(s,  days, rest, era, doe, yoe, doy, mp, y, m) {
	days = int(s / 86400); rest = s - days * 86400
	if (rest < 0) { rest += 86400; days-- }
	days += 719468
	era = int(days / 146097); doe = days - era * 146097
	yoe = int((doe - int(doe / 1460) + int(doe / 36524) - int(doe / 146096)) / 365)
	doy = doe - (365 * yoe + int(yoe / 4) - int(yoe / 100))
	mp = int((5 * doy + 2) / 153)
	m = mp < 10 ? mp + 3 : mp - 9
	y = yoe + era * 400 + (m <= 2)
	return sprintf("%04d%02d%02d%02d%02d.%02d", y, m, doy - int((153 * mp + 2) / 5) + 1, int(rest / 3600), int(rest % 3600 / 60), rest % 60)
}
'

# Writes restamp.sh: chown, chmod and touch for lines "WHAT VALUE PATH", many at a time.
# shellcheck disable=SC2016 # the $W in it is for the commands that it writes
RESTAMPS='
BEGIN {
	FS = OFS = TAB; OUT = W "/restamp.sh"; LIMIT = ENVIRON["LIMIT"] + 0
	while ((getline l < (W "/attributes.all")) > 0) { split(l, f, TAB); capable[f[1]] = 1 }
	while ((getline l) > 0) {
		split(l, f, TAB); r = raw(f[3])
		# A touch that takes mktime at its word cannot say one second before 1970; it can copy it.
		if (f[1] == 3) f[2] = f[2] == -1 ? "-r \"$W/before1970\"" : "-t " stamp(f[2] + 0)
		command = (f[1] == 1 ? "chown -h " : f[1] == 2 ? "chmod " : "touch -h ") f[2]
		if (f[1] == 1 && (f[3] in capable) && length(r) <= LIMIT) {
			flush_batch(OUT)
			print "own " f[2] " " quoted("./" r) > OUT
			continue
		}
		if (length(r) <= LIMIT) { batch(OUT, command, r); continue }
		if (f[4] == "link") continue # deep.sh does these
		flush_batch(OUT)
		print "deep " quoted(r) " " command " || not_set" > OUT
	}
	flush_batch(OUT)
}
'

# Sets mode, owner and time; lines MODE UID GID MTIME PATH (MODE is "link" for links).
restamp() {
	[ -s "$1" ] || return 0
	awk -v root="$ROOT" 'BEGIN { FS = OFS = "\t" } {
		if (root == 1) print 1, $2 ":" $3, $5, $1
		if ($1 != "link") print 2, $1, $5, $1
		print 3, $4, $5, $1
	}' "$1" | sort | awk "$AWKLIB$STAMPS$RESTAMPS" || no_room
	settled
	if [ ! -f "$W/before1970" ]; then
		printf '0\tbefore1970\t600\t0\t0\t-1\n' | note before
		(cd "$W" && make_entries before)
	fi
	run restamp.sh
}
# own OWNER FILE: chown takes capabilities away, so only where the owner is another.
own() {
	set -f
	# shellcheck disable=SC2046 # the words of ls
	set -- "$1" "$2" $(ls -ldn "$2")
	set +f
	[ "$5:$6" = "$1" ] || chown -h "$1" "$2" || not_set
}
not_set() { fail "some owners, modes or times could not be set (see above)"; }

# For paths that are too long for one call.
# enter PATH: goes to its folder, step by step; PLACE is its last component. (For subshells: it does not come back.)
enter() {
	PLACE=$1
	while :; do
		case $PLACE in
		*/*) ;;
		*) break ;;
		esac
		component=${PLACE%%/*} PLACE=${PLACE#*/}
		[ -d "./$component" ] || mkdir "./$component"
		cd -P "./$component" 2>/dev/null || exit 1
	done
}
# deep PATH COMMAND...: runs it there, with the last component added.
deep() (
	enter "$1"
	shift
	"$@" "./$PLACE"
)
into() { cat >"$1"; }
make_node() { mknod "$4" "$1" "$2" "$3"; }
# Hard links between long paths: by way of a short name.
deep_link() {
	deep "$1" link_to "$W/link" && deep "$2" link_from "$W/link" && rm -f "$W/link"
}
link_to() { ln "$2" "$1"; }
link_from() { ln "$1" "$2"; }
# Files with holes, by hand, between `enter` and `leave`: the data of each segment comes from standard input.
holes() { dd if=/dev/null of="./$PLACE" bs=1 seek="$1" 2>/dev/null || broken "cannot write $PLACE"; }
segment() {
	[ "$DD_BYTES" = 1 ] || broken "this dd cannot restore files with holes; use GNU tar"
	dd of="./$PLACE" bs=65536 iflag=fullblock,count_bytes oflag=seek_bytes conv=notrunc count="$2" seek="$1" 2>/dev/null ||
		broken "cannot write $PLACE"
}
broken() {
	[ -n "${BROKEN-}" ] || fail "$1"
	BROKEN=1
}
leave() { [ -z "${BROKEN-}" ] || rm -f "./$PLACE"; }

# A stream of records from the repository.
records() {
	run "$1"
	zeros 1024
}
# Extracts one. Whatever the records are, all folders are folders after that.
extract() {
	[ -f "$W/$1" ] || return 0
	records "$1" | untar
	run folders.sh
}
real() {
	for folder; do
		if [ -h "$folder" ] || ! [ -d "$folder" ]; then
			die 4 "the records of the repository made something else of the folder
$folder; stopping here"
		fi
	done
}

# Tar headers for the lines of a file, extracted here.
make_entries() {
	[ -s "$W/$1" ] || return 0
	scribe "$AWKLIB$STAMPS$HEADERS" <"$W/$1"
	part=1
	while [ -f "$W/headers.$part" ]; do
		{
			run "headers.$part"
			zeros 1024
		} | untar "$PLAIN_FLAGS"
		rm -f "$W/headers.$part"
		part=$((part + 1))
	done
}

# For file systems without links: a command for each line, from where the link would lead.
one_by_one() {
	awk -F '\t' -v command="$1" "$AWKLIB"'{ print command " " quoted("./" raw($7)) " " quoted("./" raw($2)) " || failed=1" }' \
		"$W/$2" | note each.sh
	settled
	failed=0
	run each.sh
	[ "$failed" = 0 ] || fail "some files could not be put in place (see above)"
}

# Nothing that tar made from the repository's own records may lead elsewhere: links are made anew, at the end. (No
# record is a hard link; one that is came from a forged repository.)
remove_links() { find . \( -type l -o -type f -links +1 \) -exec rm -f {} + 2>/dev/null; }

# No header reaches tar that was not compared with the manifest: it must be of the type, size and path that the manifest
# says, for every tar, also for those that know no pax headers, and its checksum must be right (tar would look for the
# next header in the content of the file). So tar finds headers where we do, and only these: a repository that somebody
# forged cannot have it write another path, or through a link. This reads blobs as `look` makes them, and compares what
# is in them with $W/doubts, lines
#   RECORD BLOB OFFSET KIND SIZE PATH FLAG TARGET (for heads: FLAG is "sparse" or 0, then REALSIZE MAP)
# For those that fit it prints "RECORD LENGTH-OF-PAX-HEADER".
# shellcheck disable=SC2016 # these are awk's
INSPECT='
function octal(s,  v, i) {
	if (s !~ /^[0-7]+\001$/) return -1
	v = 0; for (i = 1; i < length(s); i++) v = v * 8 + substr(s, i, 1)
	return v
}
# The sum of the bytes, two at a time.
function add(s,  v, i, n, two) {
	v = 0; n = length(s)
	for (i = 1; i <= n; i += 2) {
		two = substr(s, i, 2)
		if (!(two in PAIR)) PAIR[two] = ORD[substr(two, 1, 1)] + ORD[substr(two, 2)]
		v += PAIR[two]
	}
	return v
}
# The same, for what occurs often.
function sum(s) {
	if (s in SUMS) return SUMS[s]
	if (++sums > 5000) { split("", SUMS); sums = 0 }
	return SUMS[s] = add(s)
}
function until_nul(s,  i) { i = index(s, "\001"); return i ? substr(s, 1, i - 1) : s }
function mapped(s) {
	if (s ~ /[\001-\004\n]/) { gsub(/[\001-\004]/, "\003", s); gsub(/\n/, "\002", s) }
	return s
}
# How much more the bytes of a name come to than what `look` made of them.
function more(s) { return s ~ /[\001-\004]/ ? gsub(/\003/, "", s) + 2 * gsub(/\004/, "", s) - gsub(/\001/, "", s) : 0 }
# How much the checksum of a header is above what it should be; "" if it is no header.
function off(l,  name, s) {
	if (substr(l, 258, 8) != "ustar\00100" || substr(l, 149, 8) !~ /^[0-7][0-7][0-7][0-7][0-7][0-7]\001 $/) return ""
	name = substr(l, 1, 100); match(name, "[^/]*$")
	s = sum(substr(name, 1, RSTART - 1)) + add(until_nul(substr(name, RSTART)))
	# What stands behind a NUL counts as well.
	if (index(name, "\001")) s += sum(substr(name, index(name, "\001")))
	return octal(substr(l, 149, 7)) - (s + sum(substr(l, 101, 24)) + add(substr(l, 125, 24)) + 256 + sum(substr(l, 157)))
}
# The next line of this blob, and where it begins.
function next_line() {
	LINE_AT += length(LINE); LINE = ""
	while (!ENDED && LINE == "") if ((getline LINE) <= 0 || LINE == "\004") { ENDED = 1; LINE = "" }
	return !ENDED
}
# SIZE bytes of the blob, from an offset; less where it is not as long, or where that was passed already.
function part(at, size,  t) {
	while (at >= LINE_AT + length(LINE)) if (!next_line()) return ""
	if (at < LINE_AT) return ""
	t = substr(LINE, at - LINE_AT + 1, size)
	while (length(t) < size && next_line()) t = t substr(LINE, 1, size - length(t))
	return t
}
# Reads a pax header into V. Only what reliab writes is allowed, each key once.
function read_pax(t,  at, len, space, rec, eq, k) {
	for (at = 1; at <= length(t); at += len) {
		len = substr(t, at, 11); space = index(len, " "); len = substr(len, 1, space - 1)
		if (len !~ /^[1-9][0-9]*$/ || len + 0 > length(t) - at + 1 || len + 0 < space + 3) return 0
		rec = substr(t, at + space, len - space)
		eq = index(rec, "="); k = substr(rec, 1, eq - 1)
		if (substr(rec, length(rec)) != "\002") return 0
		if (k ~ /^SCHILY[.]xattr[.]/ || k == "SCHILY.acl.access" || k == "SCHILY.acl.default") continue
		if (k !~ /^(path|linkpath|size|uid|gid|mtime|GNU[.]sparse[.](major|minor|name|realsize))$/ || (k in V)) return 0
		V[k] = substr(rec, eq + 1, length(rec) - eq - 1)
	}
	return 1
}
# The size that a header says; -1 where it is not said as it should be, so that some tar might see another.
function size_of(l,  size) {
	size = octal(substr(l, 125, 12))
	if (!("size" in V)) return size
	if (size || V["size"] !~ /^[0-9]+$/ || length(V["size"]) > 15 || V["size"] + 0 < 8589934592) return -1
	return V["size"] + 0
}
# True if a header, and the pax header in V before it, are what the fields F of a line of $W/doubts say.
function fits(l,  kind, sparse, path, want, name, t, extra, link) {
	kind = F[4]; sparse = F[7] == "sparse"; MALFORMED = 0
	path = raw(F[6]) (kind == "x" ? "/" : ""); want = mapped(path); name = until_nul(substr(l, 1, 100))
	if (substr(l, 157, 1) != (sparse ? "0" : F[7] "")) return 0
	t = until_nul(substr(l, 346, 155))
	if ("path" in V) {
		# For who does not know it, the block has the end of the path.
		if (length(path) > 100) path = substr(path, length(path) - 99)
		sub(/^\//, "", path)
		if (V["path"] != want || name != mapped(path) || t != "") return 0
	} else if ((t == "" ? name : t "/" name) != want) return 0
	extra = more(path)
	if (F[7] == 2) {
		link = raw(F[8]); t = until_nul(substr(l, 158, 100))
		if ("linkpath" in V ? V["linkpath"] != mapped(link) || t != mapped(substr(link, 1, 100)) : t != mapped(link)) return 0
		extra += more(substr(link, 1, 100))
	} else if ("linkpath" in V) return 0
	if (MALFORMED || off(l) "" != extra "") return 0
	if (sparse != (("GNU.sparse.major" in V) || ("GNU.sparse.minor" in V) || ("GNU.sparse.name" in V) || ("GNU.sparse.realsize" in V))) return 0
	t = size_of(l)
	if (kind != "h") return t == (kind == "f" ? F[5] + 0 : 0)
	if (!sparse) return FULL[F[2]] == pax + 512 && t == F[5] + 0
	return V["GNU.sparse.major"] == "1" && V["GNU.sparse.minor"] == "0" && V["GNU.sparse.name"] == want && V["GNU.sparse.realsize"] "" == F[8] "" && t == FULL[F[2]] - pax - 512 + F[5] && has_map()
}
# True if all that stands behind the header of a sparse file is the map of its data.
function has_map(  map, size) {
	map = F[9] ","; gsub(/,/, "\002", map)
	size = pad(length(map))
	return FULL[F[2]] == pax + 512 + size && part(pax + 512, size) == map substr(NULS, 1, size - length(map))
}
# The next line of $W/doubts.
function next_doubt() { if ((getline ahead < DOUBTS) <= 0) ahead = ""; split(ahead, F, TAB) }
# Compares all that is asked of one record.
function record(  number, at, l, left, good) {
	number = F[1]; at = F[3]; pax = 0; split("", V)
	l = part(at, 512); good = 1
	if (substr(l, 157, 1) == "x") {
		left = octal(substr(l, 125, 12))
		good = left > 0 && left <= 67108864 && off(l) "" == "0" && read_pax(part(at + 512, left))
		pax = 512 + pad(left)
		l = part(at + pax, 512)
	}
	for (; ahead != "" && F[1] == number; next_doubt()) good = good && length(l) == 512 && fits(l)
	return good ? number " " pax "\n" : ""
}
BEGIN {
	for (i = 1; i < 256; i++) ORD[sprintf("%c", i)] = i
	ORD["\001"] = 0; ORD["\002"] = 10; ORD["\003"] = 2; ORD[""] = 0
	NULS = "\001"; while (length(NULS) < 512) NULS = NULS NULS
	DOUBTS = W "/doubts"
	while ((getline l < (W "/found")) > 0) { split(l, p, " "); FULL[p[1]] = p[5] + 0 }
	next_doubt()
	while (ahead != "") {
		LINE = results = ""; LINE_AT = ENDED = 0; blob = F[2]
		while (ahead != "" && F[2] == blob) results = results record()
		while (next_line()) {}
		# One that is longer or shorter is cut in another way later.
		if (LINE_AT == FULL[blob]) printf "%s", results
	}
}
'
# look PACK OFFSET LENGTH: a blob as lines. awk knows no NUL, and a line no line feed, so these become \001 and
# \002, and what had such bytes becomes \003. A \004 stands alone behind each blob.
look() {
	get "$1" "$2" "$3" | unz | tr '\000\012\001\002\004' '\001\002\003\003\003' | fold -b -w 8192
	printf '\n\004\n'
}
# Writes $W/pax, lines "RECORD LENGTH-OF-PAX-HEADER" of all records that fit the manifest.
inspect() {
	empty pax
	export STEP
	STEP='inspect'
	awk "$AWKLIB$BUNDLES" | note doubts
	settled
	[ -s "$W/doubts" ] || return 0
	awk 'BEGIN {
		W = ENVIRON["W"]
		while ((getline l < (W "/found")) > 0) { split(l, p, " "); place[p[1]] = p[2] " " p[3] " " p[4] }
		while ((getline l < (W "/doubts")) > 0) {
			# (The rest of a line may be long.)
			split(substr(l, 1, 40), p, "\t")
			if (p[2] != last) print "look " place[p[2]]
			last = p[2]
		}
	}' | note ops
	settled
	run ops | awk "$AWKLIB$INSPECT" | note pax
	settled
}

# restore SNAPSHOT TARGET PATH
restore() {
	enter_target "$2"
	choose_tar
	open_snapshot "$1"
	read_index
	select_entries restore "$3"
	# shellcheck disable=SC2086 # words
	set -- $TOTALS
	[ $# = 8 ] || no_room
	files=$1 dirs=$2 links=$3 others=$4 bytes=$5 devices=$6 expected=$7 attributed=$8
	for file in dirs mkdirs special small large blobs attributes attributes.spare; do
		[ -f "$W/$file" ] || empty "$file"
	done
	rm -f "$W"/pages.*
	sort "$W/small" | note small.sorted
	rm -f "$W/small"
	settled
	carefully write_all
	check_lengths
	write_links_and_specials
	move_into_place
	finish_folders
	write_attributes
	finish
}

# Makes TARGET and in it STAGE, and in that TREE, where all is written until it is whole; goes there. Beside it are the
# notes, which are run, so nothing may ever be extracted among them; and scratch folders.
enter_target() {
	target=$1
	case $target in
	-*) target=./$target ;;
	esac
	if [ -e "$target" ] || [ -h "$target" ]; then
		[ -d "$target" ] || die 1 "$target is not a folder; name a new one"
		contents=$(ls -A "$target" 2>/dev/null && echo .) || no_access "look into" "$target"
		[ "$contents" = . ] || die 1 "$target is not empty; name a new folder"
	else
		mkdir -p -- "$target" || die 1 "cannot make the folder $target"
		MADE=$target
	fi
	TOPDIR=$(real_path "$target") || die 1 "cannot enter the folder $target"
	TOPDIR=${TOPDIR%??}
	[ -z "$MADE" ] || MADE=$TOPDIR
	case $TOPDIR/ in
	"${REPO%/}"/*)
		die 1 "$target lies in the repository itself; name a folder outside of it, such as ~/restored"
		;;
	esac
	SCRATCH=recover-unfinished.$(number_of_run)
	STAGE=$TOPDIR/$SCRATCH
	(umask 077 && mkdir -m 700 "$STAGE") || die 1 "cannot write to $target"
	# What is restored gets its own ACLs, and none that TARGET passes on.
	setfacl -k "$STAGE" 2>/dev/null || setfattr -x system.posix_acl_default "$STAGE" 2>/dev/null || :
	tell_who_may_interfere
	TREE=$STAGE/tree
	workspace "$STAGE/notes"
	mkdir "$TREE" || die 1 "cannot write to $target"
	cd -P -- "$TREE" || exit 1
	# No path that this script hands to a tool may be longer than 4095 bytes, also with TREE before it.
	LIMIT=$((3900 - ${#TREE}))
	REVERSE=0
	export TREE SCRATCH LIMIT REVERSE
}

# Whoever may write to a folder around TARGET could put another in its place while this runs, notes and all.
tell_who_may_interfere() {
	[ "$(id -u)" = 0 ] || return 0
	folder=$TOPDIR
	while :; do
		set -f
		# shellcheck disable=SC2046 # the words of ls
		set -- $(ls -ldn "${folder:-/}")
		set +f
		# Mode, owner and group; in a sticky folder nobody moves what belongs to root.
		case ${3-},$1,${4-} in
		0,?????????[tT]*) ;;
		[!0]*,* | 0,????????w*,* | 0,?????w*,[!0]* | 0,?????w????+*,*)
			say "recover.sh: others than root may write to
  ${folder:-/}
and could change what is restored there while this runs, and what is run for
it; better name a folder where only root may write"
			return
			;;
		esac
		[ -n "$folder" ] || return 0
		folder=${folder%/*}
	done
}

# Everything that reads blobs: plans, then writes folders and files into STAGE. It may be called anew.
write_all() {
	find . ! -name . -prune -exec rm -rf {} +
	rm -rf "$STAGE"/s[0-9]* "$STAGE/copy" "$W"/b/* "$W"/ops.* "$W"/stream.*
	empty copies moved restamp expected
	plan_files
	all_read || return 0
	refuse_what_is_lost
	say "restoring $files files ($bytes bytes), $dirs folders,"
	say "$((links + others)) links and specials to $target"
	[ "$KIND" != plain ] || say "recover.sh: this tar leaves out extended attributes and ACLs; GNU tar does not"
	make_folders
	write_files
}

# Finds out which files can be restored, and how: the streams (ops.*), and $W/missing.
plan_files() {
	note missing <"$W/missing.pages"
	note special.kept <"$W/special"
	locate "$W/blobs" "$W/found"
	inspect
	all_read || return 0
	STEP='write'
	# shellcheck disable=SC2046 # words
	set -- $(awk "$AWKLIB$BUNDLES")
	settled
	[ $# = 4 ] || no_room
	roots=$1 bad_records=$2 planned=$3
	# Counted twice, once here and once from the manifest alone.
	[ $((planned + $4)) -eq "$files" ] || no_room
	take_spare_attributes
	drop_what_is_lost
	DAMAGED=0
	[ ! -s "$W/missing" ] || DAMAGED=1
	[ "$bad_records" = 0 ] || say "recover.sh: $bad_records records do not fit the manifest"
}

# Where only the record with the attributes is lost (lines "attributes PATH" in $W/missing), the page has them too.
take_spare_attributes() {
	awk 'BEGIN { FS = "\t" } !second { if (sub(/^attributes /, "")) lost[$0] = 1; next } $1 in lost' \
		"$W/missing" second=1 "$W/attributes.spare" | cat "$W/attributes" - | note attributes.all
	awk '$1 != "attributes"' "$W/missing" | note missing.left
	settled
	mv "$W/missing.left" "$W/missing" || no_room
}

# Takes lost files out of the lists of what comes later, and notes their second names as lost.
drop_what_is_lost() {
	awk "$AWKLIB"'BEGIN { FS = TAB; MORE = W "/missing.more"; printf "" > MORE }
		!second { if (sub(/^path /, "")) lost[$0] = 1; next }
		$1 == 1 && ($7 in lost) { print "path " $2 > MORE; next }
		{ print }' "$W/missing" second=1 "$W/special.kept" | note special.left
	settled
	mv "$W/special.left" "$W/special.kept" || no_room
	cat "$W/missing.more" >>"$W/missing" || no_room
	awk -F '\t' '!second { if (sub(/^path /, "")) lost[$0] = 1; next } !($5 in lost)' \
		"$W/missing" second=1 "$W/restamp" | note restamp.left
	settled
	mv "$W/restamp.left" "$W/restamp" || no_room
}

refuse_what_is_lost() {
	[ -s "$W/missing" ] && [ "$KEEP" = 0 ] || return 0
	awk "$AWKLIB"'$1 == "path" { print "lost: " shown(substr($0, 6)); if (++n == 20) { print "lost: ... and more"; exit } }' "$W/missing" >&2
	die 4 "$(awk '$1 == "path" { n++ } END { print n + 0 }' "$W/missing") paths cannot be restored, because of what is damaged
or missing above. Nothing was written. Look for another copy of it; or use
--keep-going to restore everything else; or choose another snapshot"
}

# Folders, for the time being with modes that let us write.
make_folders() {
	# shellcheck disable=SC2034 # folders.sh uses FOLDERS
	{
		awk -F '\t' '{ print $2 }' "$W/dirs"
		cat "$W/mkdirs"
	} | (umask 077 && awk "$AWKLIB"'BEGIN {
		OUT = W "/folders.sh"; DEEP = W "/deep_folders.sh"; LIMIT = ENVIRON["LIMIT"] + 0
		while ((getline l) > 0) {
			r = raw(l)
			if (length(r) > LIMIT) print "deep " quoted(r) " make_dir" > DEEP
			else batch(OUT, "$FOLDERS", r)
		}
		flush_batch(OUT)
	}' && settled && FOLDERS='mkdir -p' && run folders.sh && run deep_folders.sh) || die 1 "cannot make the folders in $target"
}
make_dir() { [ -d "$1" ] || mkdir "$1"; }

# Folders of which nothing is known get the mode of new ones. Where pages are lost it may have been one that keeps
# others out, so there they stay for their owner alone.
open_folders() {
	[ -s "$W/mkdirs" ] && [ ! -s "$W/holes" ] || return 0
	scribe "$AWKLIB"'BEGIN {
		OUT = W "/mkdirs.sh"; command = "chmod =rx,u+w"
		while ((getline l) > 0) {
			r = raw(l)
			if (length(r) > ENVIRON["LIMIT"] + 0) print "deep " quoted(r) " " command " || not_set" > OUT
			else batch(OUT, command, r)
		}
		flush_batch(OUT)
	}' <"$W/mkdirs"
	run mkdirs.sh
}

write_files() {
	# From here on folders.sh checks them.
	# shellcheck disable=SC2034 # folders.sh uses it
	FOLDERS=real
	# Files that lie in the repository as they are wanted.
	extract ops.0
	remove_links
	# Files with other names there: into scratch folders, then linked to their places.
	number=1
	while [ "$number" -le "$roots" ]; do
		mkdir "$STAGE/s$number" || no_room
		records "ops.$number" | (cd "$STAGE/s$number" && untar && remove_links)
		number=$((number + 1))
	done
	(cd "$STAGE" && if [ "$HARD_LINKS" = 1 ]; then make_entries moved; else one_by_one "mv -f" moved; fi)
	rm -rf "$STAGE"/s[0-9]*
	copy_files
	run ops.m
	run ops.t
	# Folders and specials with attributes come later; what they need is read now.
	for stream in x y; do
		[ ! -f "$W/ops.$stream" ] || records "ops.$stream" | note "stream.$stream"
	done
	all_read || return 0
	settled
}

# Files with the content of another: a tree of links to that, copied with the content.
copy_files() {
	[ -s "$W/copies" ] || return 0
	if [ "$HARD_LINKS" = 0 ]; then
		one_by_one "cp -p" copies
		return
	fi
	mkdir "$STAGE/copy" || no_room
	(cd "$STAGE/copy" && make_entries copies)
	# cp gives the folders that are there the modes of these.
	find "$STAGE/copy" -type d -exec chmod 700 {} + || fail "find failed (see above)"
	keep=-p
	case $(cp --help 2>&1) in
	*--preserve*) keep='--preserve=all --no-preserve=links' ;;
	esac
	# shellcheck disable=SC2086 # words
	(cd "$STAGE/copy" && cp -RL $keep . "$TREE/") || fail "cp failed (see above)"
	rm -rf "$STAGE/copy"
}

# Compares the length of each file, and counts: all that were planned must have been compared.
# Removes files that are not as long as the manifest says, and notes them as lost. Here ends what tar could not write,
# for want of room or whatever it said above.
check_lengths() {
	empty wrong
	# shellcheck disable=SC2016 # awk's, and of the commands that it writes
	scribe "$AWKLIB"'
	function flush() { if (n) print "lengths " first " " quoted(sizes) names > OUT; n = 0; sizes = names = "" }
	BEGIN {
		FS = TAB; OUT = W "/lengths.sh"; LIMIT = ENVIRON["LIMIT"] + 0
		while ((getline) > 0) {
			line++; r = raw($2)
			if (length(r) > LIMIT) {
				print "if deep " quoted(r) " lengths " line " " quoted($1 " ") "; then RIGHT=$((RIGHT + 1)); else WRONG=$((WRONG + 1)); fi" > OUT
				continue
			}
			if (!n++) first = line
			sizes = sizes $1 " "; names = names " " quoted("./" r)
			if (length(names) > 30000) flush()
		}
		flush()
	}' <"$W/expected"
	RIGHT=0 WRONG=0
	run lengths.sh
	settled
	[ $((RIGHT + WRONG)) -eq "$planned" ] || die 1 "$((planned - RIGHT)) of $planned files could not be compared; is there room?"
	[ "$WRONG" != 0 ] || return 0
	fail "$WRONG files did not come out as long as they should be
(is there room?)"
	awk -F '\t' '!second { wrong[$1] = 1; next } FNR in wrong { print "path " $2 }' \
		"$W/wrong" second=1 "$W/expected" >>"$W/missing" || no_room
	drop_what_is_lost
}
# lengths N 'SIZE SIZE ' FILE FILE: these are the files of line N of $W/expected and those behind it.
lengths() {
	line=$1 sizes=$2
	shift 2
	if [ "$(sizes_of "$@")" = "$sizes" ]; then
		RIGHT=$((RIGHT + $#))
		return 0
	fi
	is_right=0
	for file; do
		size=${sizes%% *} sizes=${sizes#* }
		if [ -h "$file" ] || ! [ -f "$file" ] || [ "$(sizes_of "$file")" != "$size " ]; then
			is_right=1 WRONG=$((WRONG + 1))
			rm -f "$file" || no_room
			echo "$line" >>"$W/wrong" || no_room
		else
			RIGHT=$((RIGHT + 1))
		fi
		line=$((line + 1))
	done
	return "$is_right"
}
sizes_of() { $SIZES "$@" 2>/dev/null | tr '\n' ' '; }
ls_sizes() {
	for file; do
		set -f
		# shellcheck disable=SC2046 # the words of ls
		set -- $(ls -ldn "$file")
		set +f
		echo "$5"
	done
}

write_links_and_specials() {
	# Metadata that is newer than the record.
	restamp "$W/restamp"
	if [ -f "$W/stream.y" ]; then untar <"$W/stream.y"; fi
	run folders.sh
	make_entries special.kept
	if [ "$KIND" = plain ]; then
		# It leaves owner and time of links as they come.
		awk 'BEGIN { FS = OFS = "\t" } $1 == 2 { print "link", $4, $5, $6, $2 }' "$W/special.kept" | note links
		settled
		restamp "$W/links"
	fi
	run deep.sh
	rm -f "$W/deep.sh"
	# Counted now, while all folders can be read. (A find that fails may not know such long paths.)
	found=$({ find . 2>/dev/null || echo '*'; } | awk '$0 == "*" { exit } { n++ } END { if ($0 != "*") print n + 0 }')
}

# Gives everything its name, while folders have modes that allow it.
move_into_place() {
	# shellcheck disable=SC2016 # the inner shell expands these
	TOPDIR=$TOPDIR find . ! -name . -prune -exec sh -c 'exec mv -- "$@" "$TOPDIR/"' mv {} + ||
		die 1 "cannot move what was restored to $target"
	cd -P -- "$TOPDIR" || exit 1
}

# Mode, owner, time and attributes of folders, the deepest first.
finish_folders() {
	if [ -f "$W/stream.x" ]; then untar <"$W/stream.x"; fi
	run folders.sh
	open_folders
	REVERSE=1
	make_entries dirs
	if [ "$KIND$ROOT" = plain0 ]; then
		# For who is not root it leaves modes of folders as they are.
		scribe "$AWKLIB"'BEGIN {
			OUT = W "/modes.sh"; while ((getline l) > 0) line[++n] = l
			for (; n > 0; n--) {
				split(line[n], f, TAB); r = raw(f[2])
				if (length(r) <= ENVIRON["LIMIT"] + 0) batch(OUT, "chmod " f[3], r)
			}
			flush_batch(OUT)
		}' <"$W/dirs"
		run modes.sh
	fi
	run deep.sh
}

# Attributes that tar does not set.
write_attributes() {
	[ -s "$W/attributes.all" ] || return 0
	awk "$AWKLIB"'
	BEGIN { PATHS = W "/attributes.paths"; printf "" > PATHS }
	!second { if (sub(/^path /, "")) lost[$0] = 1; next }
	{
		split($0, f, TAB); r = raw(f[1])
		if ((f[1] in lost) || f[3] ~ "[^A-Za-z0-9+/=]") next
		if (f[2] !~ /^user[.]/ && ENVIRON["ROOT"] != 1) next
		print shown(f[1]) > PATHS
		command = "setfattr -h -n " quoted(raw(f[2])) " -v 0s" f[3]
		command = length(r) > ENVIRON["LIMIT"] + 0 ? "deep " quoted(r) " " command : command " " quoted("./" r)
		print command " || failed=1"
	}' "$W/missing" second=1 "$W/attributes.all" | note attributes.sh
	settled
	[ -s "$W/attributes.sh" ] || return 0
	# (The one of busybox takes values as they stand, not as base64.)
	attr=$(command -v setfattr) && case $(setfattr --help 2>&1) in *BusyBox*) attr='' ;; esac
	if [ -z "$attr" ]; then
		fail "setfattr is not installed, so some extended attributes
of these may not be restored:"
		sort -u "$W/attributes.paths" >&2
		return
	fi
	failed=0
	run attributes.sh
	[ "$failed" = 0 ] || fail "some extended attributes could not be set (see above)"
}

# Removes the scratch folders, stamps TARGET itself, and says how it went.
finish() {
	rc=0
	top=''
	if [ -f "$W/top" ]; then
		scribe "$AWKLIB$STAMPS$HEADERS" <"$W/top"
		top=$(cat "$W/headers.1")
	else
		expected=$((expected + 1))
	fi
	lost_pages=$(cat "$W/holes")
	missing=$(awk '$1 == "path" { print substr($0, 6) }' "$W/missing" && cat "$W/hidden")
	# A line feed in a path makes two lines of it.
	expected=$((expected - $(awk '$1 == "path" { n += 1 + gsub(/%0A/, "") } END { print n + 0 }' "$W/missing")))
	[ -f "$W/ok" ] && [ -f "$W/written" ] || rc=1
	[ -w . ] || chmod u+rwx .
	cd / && rm -rf "$STAGE" && cd -P "$TOPDIR" || exit 1
	W='' STAGE='' TREE=''
	trap - EXIT
	if [ -n "$top" ]; then
		# shellcheck disable=SC2086 # the flags are words
		{
			eval "$top"
			zeros 1024
		} | LC_ALL=$TAR_LOCALE "$TAR" $PLAIN_FLAGS -f - || rc=1
	fi
	tell_how_it_went
}

tell_how_it_went() {
	if [ -n "$found" ] && [ "$found" != "$expected" ]; then
		say "recover.sh: there should be $expected paths in $target, and there are $found;
compare with \`sh recover.sh ls\`"
		rc=1
	fi
	if [ "$attributed" != 0 ]; then
		say "recover.sh: $attributed paths have extended attributes or ACLs,
which this tar left out; GNU tar does not"
		rc=1
	fi
	if [ "$devices" != 0 ]; then
		say "recover.sh: $devices device nodes were left out; only root can make them"
		rc=1
	fi
	if [ -n "$missing" ]; then
		printf '%s\n' "$missing" | awk "$AWKLIB"'{ print "lost: " shown($0) }'
	fi
	if [ -n "$missing$lost_pages" ]; then
		say "restored to $target, but not everything: see what is listed as lost"
		[ "$rc" = 0 ] || say "and there were the errors above"
		[ "$NEWER_LOST" = 0 ] || say "and the damaged snapshot may be newer than this one"
		[ "$DAMAGED$NEWER_LOST" = 00 ] || rc=4
		exit "$rc"
	fi
	if [ "$rc" != 0 ] && [ "$NEWER_LOST" != 0 ]; then
		die 4 "restored to $target, with the errors above,
and the damaged snapshot may be newer than this one"
	fi
	[ "$rc" = 0 ] || die 1 "restored to $target, with the errors above"
	[ "$NEWER_LOST" = 0 ] || die 4 "all of this snapshot is in $target,
but the damaged one may be newer"
	say "done: everything is in $target"
}

############################################################################################ check

# has_line PATTERN FILE: true if a line is so.
has_line() { [ -n "$(awk -v pattern="$1" '$0 ~ pattern { print 1; exit }' "$2")" ]; }

check() {
	[ "$CHECK" = 1 ] || misuse "check and --no-check do not go together"
	temporary
	rc=0
	for folder in packs index snapshots; do
		names_in "$folder"
	done | note all
	settled
	refuse_unreadable "$W/all"
	count=$(awk 'END { print NR }' "$W/all")
	say "checking $count files"
	mismatched <"$W/all" | note damaged
	settled
	config=$(config_state)
	[ "$config" = good ] || echo repository.json >>"$W/damaged" || no_room
	# Packs that the index names must be there.
	awk '/^packs\//' "$W/all" | note packs
	without "$W/damaged" "$W/all" | awk '/^index\//' | note index.good
	settled
	while read -r name; do
		zstd -dcq <"$REPO/$name" 2>/dev/null
	done <"$W/index.good" | awk '!second { there[$0] = 1; next }
		$1 == "pack" { name = "packs/" substr($2, 1, 2) "/" $2; if (!(name in there) && !told[name]++) print name }' \
		"$W/packs" second=1 - | note absent
	settled
	for what in damaged absent; do
		[ -s "$W/$what" ] || continue
		echo "$what:"
		sed 's/^/  /' "$W/$what"
		rc=4
	done
	for folder in packs snapshots; do
		has_line "^$folder/" "$W/all" && continue
		echo "there is nothing in $folder/"
		rc=4
	done
	[ -f "$W/written" ] || exit 1
	if [ "$rc" = 0 ]; then
		echo "all $count files of the repository are as they were written"
	else
		say "What is not damaged can be restored:"
		say "  sh recover.sh --keep-going restore SNAPSHOT TARGET"
	fi
	exit "$rc"
}

############################################################################################ main

[ $# -gt 0 ] || {
	usage >&2
	exit 2
}
command=$1
shift
case $command in
list | ls | restore | check) ;;
*) misuse "unknown command $command" ;;
esac
tools
open_repository
trap cleanup EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM HUP
case $command in
list)
	[ $# = 0 ] || misuse "list takes no arguments"
	list
	;;
check)
	[ $# = 0 ] || misuse "check takes no arguments"
	check
	;;
ls)
	snapshot=latest
	if [ $# -gt 0 ] && is_snapshot "$1"; then
		snapshot=$1
		shift
	elif [ $# -gt 1 ]; then
		no_snapshot "$1"
	fi
	[ $# -le 1 ] || misuse "too many arguments"
	ls_snapshot "$snapshot" "${1-}"
	;;
restore)
	snapshot=latest
	if [ $# -gt 0 ] && is_snapshot "$1"; then
		snapshot=$1
		shift
	elif [ $# -gt 2 ] || { [ $# = 2 ] && is_id "$1"; }; then
		no_snapshot "$1
(should it be a folder, write ./$1)"
	elif [ $# = 2 ]; then
		TAKEN_FOR_TARGET=$1
	fi
	[ -n "${1-}" ] || misuse "restore wants a TARGET folder"
	[ $# -le 2 ] || misuse "too many arguments"
	restore "$snapshot" "$1" "${2-}"
	;;
esac

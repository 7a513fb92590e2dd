#!/bin/sh
# Puts back what `backup.sh` copied, into places that are empty. Stop the roles first.
#
#   restore.sh BACKUP [--data NAME=DIR ...] [--file NAME=FILE ...] [--postgres URL]
#
# Everything is compared with its checksum before anything is written. Whatever is not named stays
# in the backup. The database of --postgres must be there and empty (`createdb`).
#
# A dump with TimescaleDB is known by itself: the extension is made in the version of the dump, which the server must
# have, stands still while everything is put back (`timescaledb_pre_restore()`), and is woken up again whatever came of it
# (`timescaledb_post_restore()`). Only a superuser may do that; tables belong to whom they belonged to, who must be there.
#
# What agents sent after the backup is in no database any more: agents that still have it in their
# logs send it again; what they removed already is counted as skipped, by agent, and nothing waits for it.
set -eu
umask 077

die() {
  echo "restore.sh: $*" >&2
  exit 1
}

usage="usage: restore.sh BACKUP [--data NAME=DIR ...] [--file NAME=FILE ...] [--postgres URL]"
[ $# -ge 3 ] || die "$usage"
backup=$1
shift
[ -e "$backup/SHA256SUMS" ] || die "$backup is no backup, or one that was cut short: there is no SHA256SUMS in it"
(cd "$backup" && sha256sum --check --quiet --strict SHA256SUMS) >&2 || die "$backup is damaged"

data() {
  from=$backup/data/$1 to=$2
  [ -d "$from" ] || die "$backup has no data named '$1'; it has: $(cd "$backup/data" 2>/dev/null && echo ./*)"
  if [ -e "$to" ] && [ -n "$(find "$to" -mindepth 1 -print -quit)" ]; then
    die "$to is not empty: move it away first"
  fi
  mkdir -p "$to"
  cp -a "$from/." "$to/"
}

file() {
  [ -e "$backup/files/$1" ] || die "$backup has no file named '$1'"
  [ ! -e "$2" ] || die "$2 is there: move it away first"
  mkdir -p "$(dirname "$2")"
  cp -p "$backup/files/$1" "$2"
}

# What a database answers to one statement, in a session of its own.
ask() {
  psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --dbname "$1" --command "$2"
}

wake() {
  ask "$asleep" "SELECT timescaledb_post_restore()" >/dev/null ||
    die "TimescaleDB stands still in the database: as a superuser, SELECT timescaledb_post_restore() there"
}

timescale() {
  command -v psql >/dev/null || die "there is no psql: apt install postgresql-client"
  # The extension's own tables are in the dump, and fit its own version alone.
  version=$(pg_restore --data-only --schema=_timescaledb_catalog --table=metadata --file=- "$dump" |
    awk '$1 == "timescaledb_version" { print $2 }')
  extension="CREATE EXTENSION IF NOT EXISTS timescaledb"
  [ -z "$version" ] || extension="$extension VERSION '$version'"
  ask "$1" "$extension"
  found=$(ask "$1" "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
  [ "$found" = "${version:-$found}" ] || die "the database has TimescaleDB $found, and the dump is of $version"
  ask "$1" "SELECT timescaledb_pre_restore()" >/dev/null
  asleep=$1
  trap wake EXIT
  trap 'exit 1' INT TERM HUP
  # All of it or nothing. Owners stay: a superuser's tables would be closed to the role that Sentinel comes as.
  pg_restore --exit-on-error --single-transaction --dbname "$1" "$dump"
  trap - EXIT INT TERM HUP
  wake
}

postgres() {
  dump=$backup/postgres.dump
  [ -e "$dump" ] || die "$backup has no dump of PostgreSQL"
  command -v pg_restore >/dev/null || die "there is no pg_restore: apt install postgresql-client"
  if pg_restore --list "$dump" | grep ' EXTENSION - timescaledb *$' >/dev/null; then
    timescale "$1"
  else
    # All of it or nothing.
    pg_restore --no-owner --exit-on-error --single-transaction --dbname "$1" "$dump"
  fi
}

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "$usage"
  case $1 in
  --data) data "${2%%=*}" "${2#*=}" ;;
  --file) file "${2%%=*}" "${2#*=}" ;;
  --postgres) postgres "$2" ;;
  *) die "$usage" ;;
  esac
  shift 2
done
sync
echo "restored from $backup" >&2

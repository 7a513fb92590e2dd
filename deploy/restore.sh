#!/bin/sh
# Puts back what `backup.sh` copied, into places that are empty. Stop the roles first.
#
#   restore.sh BACKUP [--data NAME=DIR ...] [--file NAME=FILE ...] [--postgres URL]
#
# Everything is compared with its checksum before anything is written. Whatever is not named stays
# in the backup. The database of --postgres must be there and empty (`createdb`).
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

postgres() {
  [ -e "$backup/postgres.dump" ] || die "$backup has no dump of PostgreSQL"
  command -v pg_restore >/dev/null || die "there is no pg_restore: apt install postgresql-client"
  # All of it or nothing.
  pg_restore --no-owner --exit-on-error --single-transaction --dbname "$1" "$backup/postgres.dump"
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

#!/bin/sh
# Copies what an installation must not lose into a new folder, while everything runs.
#
#   backup.sh OUT [--data NAME=DIR ...] [--file NAME=FILE ...] [--postgres URL]
#
#   --data NAME=DIR    a role's data folder (`up`, `server`, `worker`, `registry`, `agent`), under the name
#                      by which `restore.sh` knows it. The database in it is copied as of one moment.
#   --file NAME=FILE   a configuration or a key that lies elsewhere
#   --postgres URL     the database of `store:`, dumped as of one moment, with the password in ~/.pgpass or PGPASSWORD
#
# Left out is what is made anew or comes again: an agent's log (its samples are in the database, or in
# the log of the agent that runs on), the bus, compiled code, what hosts fetched from the registry.
# OUT holds keys: keep it as you keep those, encrypted where it leaves the machine.
#
# Needs sqlite3 or python3 for a database of SQLite, for PostgreSQL a pg_dump that is not older than the server. Of
# TimescaleDB's own tables pg_dump says that their foreign keys are circular: `restore.sh` puts them back all the same.
set -eu
umask 077

die() {
  echo "backup.sh: $*" >&2
  exit 1
}

usage="usage: backup.sh OUT [--data NAME=DIR ...] [--file NAME=FILE ...] [--postgres URL]"
[ $# -ge 1 ] || die "$usage"
out=$1
shift
[ ! -e "$out" ] || die "$out is there already: choose a new folder"
part=$out.part
rm -rf "$part"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT
trap 'exit 1' INT TERM HUP

named() {
  case $1 in
  *[!A-Za-z0-9._-]* | "" | .*) die "'$1' is no name: letters, digits, '.', '_' and '-'" ;;
  esac
}

# A database of SQLite as of one moment, however much is written to it meanwhile.
sqlite() {
  if command -v sqlite3 >/dev/null; then
    sqlite3 -readonly -cmd ".timeout 60000" "$1" ".backup '$2'"
  elif command -v python3 >/dev/null; then
    python3 - "$1" "$2" <<'PYTHON'
import sqlite3, sys
source = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=60)
with sqlite3.connect(sys.argv[2]) as copy:
    source.backup(copy, pages=4096)
PYTHON
  else
    die "there is neither sqlite3 nor python3: apt install sqlite3"
  fi
}

# A folder without what changes while it is copied: files come and go in it.
folder() {
  from=$1 to=$2
  mkdir -p "$to"
  (cd "$from" && find . \
    \( -name bus -o -name compiled -o -name compiled.key -o -name installed -o -name log -o -name state.json \
    -o -name lock -o -name '*.lock' -o -name 'sentinel.db*' -o -path ./registry/store -o -path ./store \) -prune \
    -o -type f -print) | while IFS= read -r file; do
    mkdir -p "$to/$(dirname "$file")"
    cp -p "$from/$file" "$to/$file"
  done
}

# A registry's store: whatever refers to an object is written after it, so that who refers is copied
# first. What vanishes meanwhile was replaced.
registry() {
  store=$1 to=$2
  mkdir -p "$to"
  for first in metadata .; do
    [ -e "$store/$first" ] || continue
    (cd "$store" && find "$first" -type f ! -name '*#*' -print) | while IFS= read -r file; do
      [ ! -e "$to/$file" ] || continue
      mkdir -p "$to/$(dirname "$file")"
      cp -p "$store/$file" "$to/$file" 2>/dev/null || [ ! -e "$store/$file" ] || die "$store/$file cannot be copied"
    done
  done
}

data() {
  name=$1 source=$2
  named "$name"
  [ -d "$source" ] || die "there is no folder $source"
  copy=$part/data/$name
  [ ! -e "$copy" ] || die "$name is named twice"
  # Keys and metadata before the database: what this refers to is there.
  folder "$source" "$copy"
  for objects in registry/store store; do
    if [ -d "$source/$objects" ]; then
      registry "$source/$objects" "$copy/$objects"
    fi
  done
  if [ -e "$source/sentinel.db" ]; then
    sqlite "$source/sentinel.db" "$copy/sentinel.db"
  fi
}

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "$usage"
  case $1 in
  --data) data "${2%%=*}" "${2#*=}" ;;
  --file)
    named "${2%%=*}"
    mkdir -p "$part/files"
    cp -p "${2#*=}" "$part/files/${2%%=*}"
    ;;
  --postgres)
    command -v pg_dump >/dev/null || die "there is no pg_dump: apt install postgresql-client"
    pg_dump --format=custom --no-owner --file "$part/postgres.dump" "$2"
    ;;
  *) die "$usage" ;;
  esac
  shift 2
done

(cd "$part" && find . -type f ! -path './SHA256SUMS*' -print0 | sort -z | xargs -0 -r sha256sum >SHA256SUMS.part)
[ -s "$part/SHA256SUMS.part" ] || die "there is nothing to copy: name a --data, --file or --postgres"
mv "$part/SHA256SUMS.part" "$part/SHA256SUMS"
sync
mv "$part" "$out"
echo "$out: $(wc -l <"$out/SHA256SUMS") files, $(du -sh "$out" | cut -f1)" >&2

#!/usr/bin/env bash
# Runs a document's example twice in a directory of its own and compares what it prints with what the document says.
# Usage: readme.sh PROGRAM TEXT
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
program=$(realpath "$1")
cd "$directory"
for run in 1 2; do
  said=$("$program")
  [ "$said" = "$2" ] || { echo "run $run printed: $said" >&2; exit 1; }
done

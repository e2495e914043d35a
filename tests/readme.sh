#!/usr/bin/env bash
# Runs the README's example in a directory of its own and compares what it prints with what the README says.
set -euo pipefail
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
program=$(realpath "$1")
cd "$directory"
for run in 1 2; do
  said=$("$program")
  [ "$said" = $'Bob\n0' ] || { echo "run $run printed: $said" >&2; exit 1; }
done

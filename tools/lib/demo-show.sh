# shellcheck shell=bash
# The part of tools/demo that shows something. Sourced; needs a finished build.

# demo_show BUILD_DIR   Fails, and says what was wrong, as soon as anything is not as it should be.
demo_show() (
  set -euo pipefail
  build=$(cd "$1" && pwd)
  PATH=$build/examples:$build/tools/dm-inspect:$PATH
  directory=$(mktemp -d)
  churn_pid= sampler_pid= sleeper_pid= watch_pid=
  table=deferred-map-demo-$$
  step="preparing"
  end() {
    local status=$? pid
    for pid in $churn_pid $sampler_pid $sleeper_pid $watch_pid; do kill -9 "$pid" 2>/dev/null || true; done
    process_table remove --name "$table" >/dev/null 2>&1 || true
    rm -rf "$directory"
    if [ $status -ne 0 ]; then echo "The demonstration failed while $step (status $status)." >&2; fi
    exit $status
  }
  trap end EXIT
  trap 'exit 130' INT TERM
  cd "$directory"

  bold= grey= plain=
  if [ -t 1 ]; then bold=$'\e[1m' grey=$'\e[2m' plain=$'\e[0m'; fi
  title() {
    step="showing: $1"
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
  }
  say() { printf '%s\n' "$@"; }
  # Shows a command and runs it. Its output is shown, and kept in the file `said`.
  run() {
    printf '%s$ %s%s\n' "$grey" "$*" "$plain"
    "$@" >said 2>&1 || { local status=$?; cat said >&2; echo "failed: $*" >&2; return $status; }
    shown
  }
  shown() { fold -s -w 118 said; }
  wrong() {
    echo "wrong: $*" >&2
    return 1
  }
  packages_said() { sed -n 's/^.*\<\([0-9][0-9]* packages, [0-9]* dependencies\).*$/\1/p' said | head -n 1; }
  start_sampler() {
    printf '%s$ process_table sample --name %s &%s\n' "$grey" "$table" "$plain"
    process_table sample --name "$table" >sampled 2>&1 &
    sampler_pid=$!
    for _ in $(seq 100); do
      if grep -q '^sampling into ' sampled; then fold -s -w 118 sampled; return; fi
      kill -0 "$sampler_pid" 2>/dev/null || break
      sleep 0.05
    done
    cat sampled >&2
    wrong "the sampler sampled nothing in five seconds"
  }
  now_us() { local ns; ns=$(date +%s%N); echo $((ns / 1000)); }
  # What a page says that an upgrade does not change: all but the versions.
  without_versions() { sed -E '/^[^ ]/s/ .*//' said; }

  title "1. A graph with cycles, in a file"
  say "The packages of this machine and what they need become one file. libc6 needs libgcc-s1, which needs libc6:" \
    "each has to know the other's key before the other exists. So every package first gets a place in the map, and" \
    "with it its key (allocate_handle), and its value after that (insert)."
  run package_graph build packages.graph
  local before page_before started ended took
  before=$(packages_said)
  [ -n "$before" ] || wrong "the number of packages was not said"

  title "2. Another process looks at it"
  say "It maps the file and follows keys. Nothing is read in or parsed, so it takes a few milliseconds, start included."
  run package_graph show packages.graph libc6
  took=
  for _ in 1 2 3 4 5; do  # the best of five: the machine has been compiling until now
    started=$(now_us)
    package_graph show packages.graph libc6 >/dev/null
    ended=$(now_us)
    if [ -z "$took" ] || [ $((ended - started)) -lt "$took" ]; then took=$((ended - started)); fi
  done
  say "(took $((took / 1000)).$((took / 100 % 10)) ms)"
  page_before=$(without_versions)
  grep -q '^libc6 ' said || wrong "libc6 was not found"
  if grep -q '^  depends on .*libgcc-s1' said; then
    grep -q 'on a cycle: *libc6.* -> ' said || wrong "the cycle of libc6 was not found"
  fi

  title "3. A writer is killed in the middle of its work"
  say "churn upgrades one package after another: it makes a new release and its dependencies beside the old ones," \
    "switches the package over with one update, and removes the old. After two seconds it gets kill -9."
  printf '%s$ package_graph churn packages.graph &%s\n' "$grey" "$plain"
  package_graph churn packages.graph >churned 2>&1 &
  churn_pid=$!
  for _ in $(seq 100); do
    grep -q '^upgraded ' churned && break
    kill -0 "$churn_pid" 2>/dev/null || { cat churned >&2; wrong "churn ended by itself"; }
    sleep 0.05
  done
  grep -q '^upgraded ' churned || wrong "churn upgraded nothing in five seconds"
  sleep 2
  say "Meanwhile nobody else gets in, and is told why:"
  printf '%s$ package_graph show packages.graph libc6%s\n' "$grey" "$plain"
  if package_graph show packages.graph libc6 >said 2>&1; then wrong "a file that is being changed was read"; fi
  fold -s -w 118 said
  printf '%s$ kill -9 %s%s\n' "$grey" "$churn_pid" "$plain"
  kill -9 "$churn_pid" || wrong "churn was gone before it was killed"
  wait "$churn_pid" 2>/dev/null || true
  churn_pid=
  say "The last lines it wrote:"
  grep '^upgraded ' churned | tail -n 3

  title "4. The next to open the file finds it whole"
  say "Opening mends what was under way. Every package is there, in the release before or after its upgrade; slots of" \
    "the upgrade that never happened are cleared up."
  run package_graph verify packages.graph --repair
  grep -q 'killed' said || wrong "the kill went unnoticed"
  grep -q '^every link is sound$' said || wrong "the graph is damaged"
  [ "$(packages_said)" = "$before" ] || wrong "there were $before, now there are $(packages_said)"
  say "The same $before as before. And the same question again:"
  run package_graph show packages.graph libc6
  [ "$(without_versions)" = "$page_before" ] || wrong "the answer has changed"

  title "5. The file explains itself"
  say "dm-inspect knows nothing of packages: the file says what its fields are called and what type they have."
  run dm-inspect info packages.graph
  run dm-inspect check packages.graph
  run dm-inspect slots packages.graph --state occupied --limit 3

  title "6. A map in shared memory, that many processes use at once"
  say "process_table samples this machine's processes into a shared map, ten times a second. Others look on without a" \
    "lock, and without the right to write."
  sleep 60 &
  sleeper_pid=$!
  start_sampler
  sleep 2
  shown() { cut -c -118 said; }
  run process_table top --name "$table" --once --rows 5
  say "The sampler gets kill -9 in the middle of its work. Who looks on is told, and goes on. watch keeps the key of a" \
    "process: it is the same after the next sampler has taken over, and stale when the process has ended."
  printf '%s$ process_table watch %s --name %s >watched &%s\n' "$grey" "$sleeper_pid" "$table" "$plain"
  process_table watch "$sleeper_pid" --name "$table" >watched 2>&1 &
  watch_pid=$!
  local victim=$sampler_pid
  for _ in $(seq 100); do
    grep -q '^sleeping' watched && break
    sleep 0.05
  done
  printf '%s$ kill -9 %s%s\n' "$grey" "$sampler_pid" "$plain"
  kill -9 "$sampler_pid" || wrong "the sampler was gone before it was killed"
  wait "$sampler_pid" 2>/dev/null || true
  run process_table top --name "$table" --once --rows 3
  grep -q "(process $victim) was killed" said || wrong "the kill went unnoticed"
  start_sampler
  grep -q "process $victim, was killed" sampled || wrong "the next sampler did not take over"
  run process_table top --name "$table" --once --rows 3
  grep -q "by process $sampler_pid\$" said || wrong "the next sampler does not sample"
  printf '%s$ kill %s; cat watched%s\n' "$grey" "$sleeper_pid" "$plain"
  kill "$sleeper_pid"
  wait "$sleeper_pid" 2>/dev/null || true
  sleeper_pid=
  wait "$watch_pid" || wrong "watch failed"
  watch_pid=
  cut -c -118 watched
  grep -q '^ended: ' watched || wrong "watch did not see the end of its process"
  say "Each process names its parent by key; tree follows the keys:"
  printf '%s$ process_table tree --name %s | head -n 8%s\n' "$grey" "$table" "$plain"
  process_table tree --name "$table" >said
  head -n 8 said | cut -c -118
  kill "$sampler_pid"
  wait "$sampler_pid" || wrong "the sampler failed"
  sampler_pid=
  run process_table remove --name "$table"

  step="cleaning up"
  printf '\n'
  say "That was it; the files are removed. To play: package_graph and process_table in $build/examples," \
    "and $build/tools/dm-inspect/dm-inspect."
)

# bash completion for dm-inspect. Verbs, options and their values are what the program's own --help says, so that this
# file is never behind it. Needs nothing but bash.

# The options of a verb: "--name" or "--name ARGUMENT" a line.
_dm_inspect_options() {
  "$1" ${2:+"$2"} --help 2> /dev/null | sed -nE 's/^  (-[A-Za-z],)?(--[a-z-]+)( ([^ ]+))?( .*)?$/\2 \4/p'
}

_dm_inspect_verbs() {
  "$1" --help 2> /dev/null | sed -nE '/^Subcommands:/,/^$/s/^  ([a-z-]+)  .*/\1/p'
}

_dm_inspect_segments() {
  local path
  for path in /dev/shm/deferred-map.*; do
    [[ -e $path ]] && printf '%s\n' "${path#/dev/shm/deferred-map.}"
  done
}

# Candidates that begin with $1, one a line on standard input.
_dm_inspect_offer() {
  local candidate
  while IFS= read -r candidate; do
    [[ $candidate == "$1"* ]] && COMPREPLY+=("$candidate")
  done
}

_dm_inspect_files() {
  compopt -o filenames 2> /dev/null
  _dm_inspect_offer "$1" < <(compgen -f -- "$1")
}

# The values of an option: $1 program, $2 verb, $3 option, $4 what is typed of it. False where it takes none.
_dm_inspect_value() {
  local name argument
  while read -r name argument; do
    [[ $name == "$3" ]] && break
    argument=
  done < <(_dm_inspect_options "$1" "$2")
  case $3:$argument in
    *:) return 1 ;;
    --state:*)
      # Several, with commas between them: the last is being typed.
      local before=
      [[ $4 == *,* ]] && before=${4%,*},
      _dm_inspect_offer "$4" < <(printf "$before%s\n" occupied reserved vacant retired updating)
      ;;
    --kind:*) _dm_inspect_offer "$4" < <(printf '%s\n' mapped shared durable) ;;
    *:*\|*) _dm_inspect_offer "$4" < <(printf '%s\n' "${argument//|/$'\n'}") ;;
    --svg:* | --output:* | --into:* | --like:* | --schema:* | --compare:*) _dm_inspect_files "$4" ;;
  esac
  return 0
}

_dm_inspect() {
  # Not COMP_WORDS, which is split at ':' and '=' too.
  local line=${COMP_LINE:0:COMP_POINT} current='' previous='' verb='' word
  local -a words
  read -ra words <<< "$line"
  if [[ $line == *[[:space:]] ]]; then
    words+=("")
  fi
  current=${words[${#words[@]} - 1]}
  ((${#words[@]} > 1)) && previous=${words[${#words[@]} - 2]}
  local program=${words[0]}
  for word in "${words[@]:1:${#words[@]}-2}"; do
    [[ $word != -* ]] && verb=$word && break
  done
  COMPREPLY=()

  if [[ -z $verb ]]; then
    if [[ $current == -* ]]; then
      _dm_inspect_offer "$current" < <(_dm_inspect_options "$program" '' | cut -d ' ' -f 1)
    else
      _dm_inspect_offer "$current" < <(_dm_inspect_verbs "$program")
    fi
  elif [[ $current == --*=* ]]; then
    _dm_inspect_value "$program" "$verb" "${current%%=*}" "${current#*=}"
    return  # what is replaced begins behind the '='
  elif [[ $previous == --* && $previous != *=* ]] && _dm_inspect_value "$program" "$verb" "$previous" "$current"; then
    :
  elif [[ $current == -* ]]; then
    _dm_inspect_offer "$current" < <(_dm_inspect_options "$program" "$verb" | cut -d ' ' -f 1)
  elif [[ $verb == gc ]]; then
    _dm_inspect_offer "$current" < <(_dm_inspect_segments)
  elif [[ $verb != list ]]; then
    _dm_inspect_files "$current"
    _dm_inspect_offer "$current" < <(_dm_inspect_segments | sed 's/^/shm:/')
  fi

  # Where ':' breaks words, what is replaced begins behind it.
  if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
    local prefix=${current%"${current##*:}"} i
    for i in "${!COMPREPLY[@]}"; do
      COMPREPLY[i]=${COMPREPLY[i]#"$prefix"}
    done
  fi
}

complete -F _dm_inspect dm-inspect

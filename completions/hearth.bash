# bash completion for hearth and hearthd                                -*- shell-script -*-
#
# Verbs, options and what they take are asked of the program itself, so that they are those of the version that is
# installed; the daemon is asked for its artifacts.
#
# shellcheck shell=bash disable=SC2207 # lists of compgen are split at lines on purpose

# The verbs that PROGRAM has.
_hearth_verbs() {
    "$1" help 2>/dev/null | sed -n '/^Options/q; s/^  \([a-z][a-z-]*\)  *.*/\1/p'
}

# The options in some help text, one a line, with what they take: "--socket PATH".
_hearth_options() {
    sed -n 's/^  *\(-[a-zA-Z], \)\{0,1\}\(--[a-z0-9-]*\)\(\( \[\{0,1\}[A-Z][A-Z=|]*\]\{0,1\}\)\{0,1\}\) .*/\2\3/p
            s/^  *\(-[a-zA-Z], \)\{0,1\}\(--[a-z0-9-]*\), \(--[a-z0-9-]*\)$/\2\n\3/p'
}

# The ids and references of what the daemon has.
_hearth_artifacts() {
    "$1" ls --timeout 2s 2>/dev/null | awk 'NR == 1 { at = index($0, "REF") } NR > 1 { print $1; print substr($0, at) }'
}

# The words of "a, b or c"; nothing of any other text.
_hearth_words() {
    sed -n '/^\([a-z0-9_]*, \)*[a-z0-9_]* or [a-z0-9_]*$/ { s/, / /g; s/ or / /; p; }'
}

# _hearth_value PROGRAM OPTION WHAT: what may follow an option that takes WHAT. The command's help says it, the daemon
# when it is asked to check a wrong setting.
_hearth_value() {
    local words=
    case $3 in
        *PATH* | *FILE* | *DIR* | WHERE) _hearth_files; return ;;
        *REF*) _hearth_references hearth; return ;;
    esac
    if [[ ${1##*/} == hearthd ]]; then
        words=$(printf '%s = ?\n' "${2#--}" | "$1" --check-config /dev/stdin 2>&1 |
            sed -n 's/.*; expected //p' | _hearth_words)
    else
        words=$(sed -n "s/^ *$2 $3 *\(.*\)/\1/p" <<<"$help" | _hearth_words)
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}

_hearth_files() {
    local IFS=$'\n'
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -f -- "$cur"))
}

_hearth_references() {
    local IFS=$'\n'
    _hearth_files
    COMPREPLY+=($(compgen -W "$(_hearth_artifacts "$1" | sed 's/[\\ "$`'\'']/\\&/g')" -- "$cur"))
}

# Takes "--option=value" apart, which the shell has cut at '=': sets cur, and option when cur is a value of one.
_hearth_word() {
    cur=${COMP_WORDS[COMP_CWORD]} option=
    if [[ $cur == "=" ]]; then
        option=${COMP_WORDS[COMP_CWORD - 1]} cur=
    elif ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == "=" ]]; then
        option=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == --* ]]; then
        option=${COMP_WORDS[COMP_CWORD - 1]}
    fi
}

# _hearth_complete_options PROGRAM OPTIONS: true when cur is an option, or the value of one.
_hearth_complete_options() {
    local line
    while IFS= read -r line; do
        if [[ $option && $line == "$option "* ]]; then
            _hearth_value "$1" "$option" "${line#* }"
            return 0
        fi
    done <<<"$2"
    [[ $cur == -* ]] || return 1
    COMPREPLY=($(compgen -W "$(cut -d' ' -f1 <<<"$2")" -- "$cur"))
}

_hearth_program() {
    program=${COMP_WORDS[0]/#~\//$HOME/}
    type -P "$program" >/dev/null || program=$1
}

_hearth() {
    local cur option program verb="" options i help
    COMPREPLY=()
    _hearth_program hearth
    _hearth_word
    help=$("$program" help 2>/dev/null)
    options=$(_hearth_options <<<"$help")
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ $verb == run && ${COMP_WORDS[i]} == "--" ]] && break
        if [[ -z $verb && ${COMP_WORDS[i]} != -* && ${COMP_WORDS[i]} != "=" && ${COMP_WORDS[i - 1]} != "=" ]] &&
            [[ $'\n'$options != *$'\n'"${COMP_WORDS[i - 1]} "* ]]; then
            verb=${COMP_WORDS[i]}
        fi
    done
    if ((i < COMP_CWORD)); then # behind "--": a program of the user's
        if ((i + 1 == COMP_CWORD)); then
            COMPREPLY=($(compgen -c -- "$cur"))
        else
            _hearth_files
        fi
        return
    fi
    if [[ -z $verb ]]; then
        _hearth_complete_options "$program" "$options" ||
            COMPREPLY=($(compgen -W "$(_hearth_verbs "$program")" -- "$cur"))
        return
    fi
    if [[ $verb == help ]]; then
        COMPREPLY=($(compgen -W "$(_hearth_verbs "$program")" -- "$cur"))
        return
    fi
    help=$("$program" help "$verb" 2>/dev/null) || return
    _hearth_complete_options "$program" "$(_hearth_options <<<"$help")" && return
    case ${help%%$'\n'*} in
        *REF* | *ID*) _hearth_references "$program" ;;
        *PATH* | *FILE*) _hearth_files ;;
    esac
}

_hearthd() {
    local cur option program
    COMPREPLY=()
    _hearth_program hearthd
    _hearth_word
    _hearth_complete_options "$program" "$("$program" --help 2>/dev/null | _hearth_options)"
}

complete -F _hearth hearth
complete -F _hearthd hearthd

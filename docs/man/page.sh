#!/bin/sh
# page.sh TEMPLATE HEARTH HEARTHD CONF PAGE.gz: fills a manual page's template with what the programs say of themselves.
#
# A line of the template that is a marker alone is replaced:
#   @verbs@    a section of each verb of `hearth help`, made of its own help
#   @options@  the options that stand before or behind every verb
#   @flags@    the options of `hearthd --help`
#   @keys@     the keys of the example configuration file, with its comments
# @version@ and @date@ stand for themselves anywhere. So a verb, option or key cannot be missing, nor be told differently.
set -eu
template=$1 hearth=$2 hearthd=$3 conf=$4 page=$5

# For awk: a line of text as roff takes it.
plain='
function plain(s) {
    gsub(/\\/, "\\e", s)
    gsub(/-/, "\\-", s)
    gsub(/\047/, "\\(aq", s)
    gsub(/`/, "\\(ga", s)
    gsub(/\^/, "\\(ha", s)
    gsub(/~/, "\\(ti", s)
    return substr(s, 1, 1) == "." ? "\\&" s : s
}'

# Text to roff: paragraphs are filled, option lines become a list, what is indented stays as it is.
roff() {
    awk "$plain"'
        function literal(on) {
            if (on && !is_literal) print ".PP\n.RS 4\n.EX"
            if (!on && is_literal) print ".EE\n.RE"
            is_literal = on
        }
        function item(left, right) {
            literal(0)
            print ".TP"
            print "\\fB" plain(left) "\\fR"
            print plain(right)
            in_item = 1
        }
        /^Usage: / { print ".SS \"" plain(substr($0, 8)) "\""; next }
        /^(Options|Examples)[a-z ]*:$/ { literal(0); print ".PP\n" plain($0); in_examples = /^Examples/; in_item = 0; next }
        in_examples && NF { literal(1); print plain(substr($0, 3)); next }
        /^ +(-[A-Za-z], )?--[a-z]/ {
            line = $0
            sub(/^ +/, "", line)
            match(line, /^(-[A-Za-z], )?--[a-z0-9-]+(, --[a-z-]+)*( \[?[A-Z][A-Z=|]*\]?)?/)
            left = substr(line, 1, RLENGTH)
            line = substr(line, RLENGTH + 1)
            sub(/^ +/, "", line)
            item(left, line == "" ? "say so, and end" : line)
            next
        }
        !NF { literal(0); if (!in_item) pending = ".PP"; next }
        /^ / && !in_item { literal(1); print plain(substr($0, 3)); next }
        {
            literal(0)
            if (pending != "" && printed) print pending
            pending = ""
            sub(/^ +/, "")
            print plain($0)
            printed = 1
        }
        END { literal(0) }'
}

verbs() {
    "$hearth" help | sed -n '/^Options/q; s/^  \([a-z][a-z-]*\)  *.*/\1/p' | while read -r verb; do
        [ "$verb" = help ] || "$hearth" help "$verb" | roff
    done
}

options() { "$hearth" help | sed -n '/^Options/,/^$/p' | sed 1d | roff; }
flags() { "$hearthd" --help | sed -n '/^  *-/p' | roff; }

# "# comment" above "#key = value", and "#[section]".
keys() {
    awk "$plain"'
        function end_example() { if (in_section) print ".EE\n.RE"; in_section = 0 }
        /^# / { end_example(); text = text (text == "" ? "" : "\n") plain(substr($0, 3)); next }
        /^#?\[/ {
            sub(/^#/, "")
            print ".SS " plain(substr($1, 2)) " sections\n" text "\n.PP\n.RS 4\n.EX\n" plain($0)
            text = ""
            in_section = 1
            next
        }
        /^#?[a-z][a-z-]* *[=:]/ {
            sub(/^#/, "")
            if (in_section) { print plain($0); next }
            print ".TP\n\\fB" plain($0) "\\fR"
            if (text != "") print text
            text = ""
            next
        }
        !NF { text = ""; end_example() }
        END { end_example() }' "$conf"
}

date=$(date -u -d "@${SOURCE_DATE_EPOCH:-$(stat -c %Y "$template")}" +%Y-%m-%d)
version=$("$hearth" --version | sed 's/^hearth //')
while IFS= read -r line; do
    case $line in
        @verbs@) verbs ;;
        @options@) options ;;
        @flags@) flags ;;
        @keys@) keys ;;
        *) printf '%s\n' "$line" | sed "s/@version@/$version/g; s/@date@/$date/g" ;;
    esac
done <"$template" | gzip -9n >"$page"

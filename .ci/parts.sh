# Parts of CI, to be sourced: each is a command with a budget of CPU seconds (user and system, of all
# processes that it started and waited for). The first that fails ends the script. At the end, however
# it comes, a table says what each part took.
#
# The same work takes up to twice the CPU seconds on a machine that others use, too: a part above its
# budget is marked, one above `slack` times its budget fails, once all parts have run.
slack=2.5

scratch="$(mktemp -d)"
table=() too_much=() running="" now=0 all=0 budgets=0

cpu() { # sets `now`: CPU seconds of all children so far (a subshell would have none)
    times >"$scratch/times"
    now="$(awk 'NR == 2 {
        for (i = 1; i <= NF; i++) { gsub(",", ".", $i); split($i, t, "m"); s += 60 * t[1] + t[2] }
        printf "%.1f", s
    }' "$scratch/times")"
}

part() { # NAME, BUDGET, COMMAND ...
    running="$1" budget="$2"
    shift 2
    echo "== $running" >&2
    cpu
    began="$now" clock="$SECONDS"
    "$@"
    ended ""
}

ended() { # a word on how: a line of the table for the part that is running
    local spent verdict="$1"
    cpu
    spent="$(awk "BEGIN { printf \"%.1f\", $now - $began }")"
    if awk "BEGIN { exit !($spent > $slack * $budget) }"; then
        verdict="${verdict:-FAR OVER}"
        too_much+=("$running")
    elif awk "BEGIN { exit !($spent > $budget) }"; then
        verdict="${verdict:-over}"
    fi
    table+=("$(printf '%-14s %9s %7s %9s  %s' "$running" "$spent" "$budget" \
        "$((SECONDS - clock))" "$verdict")")
    all="$(awk "BEGIN { printf \"%.1f\", $all + $spent }")"
    budgets=$((budgets + budget))
    running=""
}

finish() {
    local status=$?
    trap - EXIT
    if [ -n "$running" ]; then
        ended FAILED
        [ "$status" != 0 ] || status=1 # Ctrl-C
    fi
    printf '\n%-14s %9s %7s %9s\n' part "CPU s" budget "clock s"
    for line in "${table[@]}"; do echo "$line"; done
    printf '%-14s %9s %7s %9s\n' "in all" "$all" "$budgets" "$SECONDS"
    if [ "$status" = 0 ] && [ "${#too_much[@]}" != 0 ]; then
        echo "more than $slack times the budget: ${too_much[*]}" >&2
        status=1
    fi
    rm -rf "$scratch"
    exit "$status"
}
trap finish EXIT

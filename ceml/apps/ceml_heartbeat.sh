# ceml_heartbeat.sh - says to CEML how much work a shell script did. POSIX sh; source it, or copy all of it.
#
#     ceml_beat NAME STEP [KEY=VALUE ...]      after each step, e.g.: ceml_beat backup "$step" megabytes=12
#     ceml_leave NAME                          at the end
#
# One line, without this file (NAME must be [A-Za-z0-9._-], at most 64 of them; STEP counts up from 1):
#
#     [ -p "$CEML_PIPE" ] && timeout 1 sh -c 'printf "app=%s beat=%d\n" "$1" "$2" > "$CEML_PIPE"' - NAME "$step" || :
#
# Opening a pipe that nobody reads would wait for ever: hence `timeout`, around the opening too. A redirection where
# there is no pipe would leave a regular file: hence `-p`. Nothing here fails: `set -e` is safe.

# Which run this is. Not $$ alone: in a container a script has the same number at each start, and its second run would
# be taken for the first one's beats said again.
ceml_src=$(od -An -N4 -tx1 /dev/urandom 2> /dev/null | tr -d ' \n') || :
case $ceml_src in
????????) ;;
*) ceml_src=$(printf %04x%04x "$(($$ % 65536))" "$(($(date +%s) % 65536))") ;;
esac

ceml_say() {
    CEML_LINE="$*"
    export CEML_LINE
    ceml_pipe=${CEML_PIPE:-${CEML_RUNTIME_DIR:-${XDG_RUNTIME_DIR:-/run}/ceml}/beats}
    if [ ! -p "$ceml_pipe" ] && [ -z "${CEML_PIPE:-${CEML_RUNTIME_DIR:-}}" ]; then
        ceml_pipe=/run/ceml/beats
    fi
    if [ -p "$ceml_pipe" ]; then
        timeout 1 sh -c 'printf "\n%s\n" "$CEML_LINE" > "$1"' - "$ceml_pipe" 2> /dev/null || :
    fi
}

ceml_beat() {
    ceml_app=$1 ceml_step=$2
    shift 2
    ceml_say "app=$ceml_app src=$ceml_src beat=$ceml_step${*:+ $*}"
}

ceml_leave() {
    ceml_say "app=$1 src=$ceml_src event=leave"
}

# Shared by the scripts of this directory.
# shellcheck shell=bash

run=/run/meshboot

# A line for whoever stands before the machine: the kernel's log reaches every console and the journal.
say() {
    echo "<12>meshboot: $*" > /dev/kmsg
}

# The value of a parameter of the kernel's command line.
parameter() {
    local word
    for word in $(< /proc/cmdline); do
        if [[ $word == "$1="* ]]; then
            echo "${word#*=}"
            return 0
        fi
    done
    return 1
}

# Ends the script, and with it the boot: the reason is what meshboot-failure.service shows.
die() {
    say "$*"
    mkdir -p "$run"
    echo "$*" > "$run/failure"
    exit 1
}

# Runs a command that has to succeed. $1: what it does.
attempt() {
    local what=$1 error
    shift
    error=$("$@" 2>&1) || die "$what failed: ${error//$'\n'/ }"
}

# Seconds since the kernel started, whole.
uptime_seconds() {
    local up
    read -r up _ < /proc/uptime
    echo "${up%%.*}"
}

# Name and MAC of every wired port that is a device of its own, one pair a line.
ports() {
    local port name
    for port in /sys/class/net/*; do
        name=${port##*/}
        [[ -e $port/device && ! -e $port/wireless && $(< "$port/type") == 1 ]] || continue
        echo "$name $(< "$port/address")"
    done
}

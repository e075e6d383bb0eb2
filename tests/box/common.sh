# Sourced by `npt` and `ept`: what the two boxes share. Each of them defines
#   PROGRAMS          program=package pairs that the host must have
#   MODULES           kernel modules of the guest, in the order in which they are loaded
#   STAGE2            the file in the guest's sysfs that says whether nested paging is on
#   start_emulator    starts the emulator in the background and sets `emulator` to its process id;
#                     the guest's first serial port goes to $work/console, its second to $work/results
# shellcheck shell=bash disable=SC2034,SC2154

name=$(basename "$0")

usage() {
    # The comment at the head of the script is its manual.
    sed -n '2,/^set /{/^#/!d;s/^# \{0,1\}//;p}' "$0"
}

# die STATUS MESSAGE...: 2 wrong usage, 4 the host lacks something, 125 the box itself failed.
die() {
    local status=$1 line
    shift
    for line in "$@"; do
        echo "$name: $line" >&2
    done
    exit "$status"
}

# whole_number OPTION VALUE LEAST
whole_number() {
    [[ $2 =~ ^[0-9]{1,9}$ ]] && ((10#$2 >= $3)) ||
        die 2 "$1 takes a whole number of at least $3, not '$2'"
}

parse() {
    cpus=2 memory=1024 nodes=1 out="" limit=$DEFAULT_LIMIT
    while getopts ':c:m:n:o:t:h' option; do
        case $option in
            c) whole_number -c "$OPTARG" 1 && cpus=$OPTARG ;;
            m) whole_number -m "$OPTARG" 256 && memory=$OPTARG ;;
            n) whole_number -n "$OPTARG" 1 && nodes=$OPTARG ;;
            o) out=$OPTARG ;;
            t) whole_number -t "$OPTARG" 1 && limit=$OPTARG ;;
            h) usage && exit 0 ;;
            :) die 2 "-$OPTARG takes a value (see $name -h)" ;;
            *) die 2 "unknown option -$OPTARG (see $name -h)" ;;
        esac
    done
    shift $((OPTIND - 1))
    (($# == 2)) || die 2 "expects DIR and COMMAND, got $# arguments (see $name -h)"
    [[ -d $1 ]] || die 2 "'$1' is not a directory; DIR holds the static binaries to run"
    directory=$(realpath "$1") command=$2
    if [[ $out ]]; then
        mkdir -p "$out" || die 2 "cannot create the directory '$out' given with -o"
        out=$(realpath "$out")
    fi
}

need_programs() {
    local pair lacking=() packages=()
    for pair in "${PROGRAMS[@]}" apt-get=apt dpkg=dpkg cpio=cpio xz=xz-utils flock=util-linux; do
        if ! command -v "${pair%%=*}" >/dev/null; then
            lacking+=("${pair%%=*}")
            packages+=("${pair#*=}")
        fi
    done
    ((${#lacking[@]} == 0)) ||
        die 4 "the host lacks ${lacking[*]}" "remedy: apt-get install --no-install-recommends ${packages[*]}"
}

# Debian's newest kernel of the +deb series (6.12 and later: UFFDIO_MOVE needs 6.8), and busybox,
# unpacked into the cache, not installed. Two runs at once take turns here.
fetch_system() {
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/underfoot
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    system=$cache/system
    if [[ ! -d $system ]]; then
        download_system
    fi
    exec 9>&-
    kernel=$(echo "$system"/boot/vmlinuz-*)
    modules=$(echo "$system"/lib/modules/*/kernel)
}

download_system() {
    local package
    package=$(apt-cache search --names-only '^linux-image-[0-9.]+[+]deb[0-9]+-amd64$' |
        cut -d' ' -f1 | sort -V | tail -1)
    [[ $package ]] ||
        die 4 "apt knows no Debian kernel of the +deb series (6.12 or later)" "remedy: apt-get update, on Debian 12 or later"
    echo "$name: downloading $package and busybox-static, once, into $cache" >&2
    mkdir "$work/download"
    (cd "$work/download" && apt-get -qq download "$package" busybox-static) >"$work/apt.log" 2>&1 ||
        die 4 "could not download $package: $(tail -1 "$work/apt.log")" "remedy: apt-get update"
    # Unpacked beside its place and renamed: a run that is killed leaves no half of a system.
    rm -rf "$system.new"
    local deb
    for deb in "$work"/download/*.deb; do
        dpkg -x "$deb" "$system.new"
    done
    mv "$system.new" "$system"
    rm -rf "$work/download"
}

# The initial RAM disk: busybox, the modules, the caller's directory, and an init that runs COMMAND.
pack_initrd() {
    local root=$work/root module
    mkdir -p "$root"/{bin,modules,proc,sys,dev,tmp,out}
    cp "$(find "$system" -path '*/bin/busybox' | head -1)" "$root/bin/busybox"
    for module in "${MODULES[@]}"; do
        xz -dc "$modules/$module.ko.xz" >"$root/modules/$(basename "$module").ko"
    done
    cp -R "$directory/." "$root/"
    printf '%s\n' "$command" >"$root/command"
    cat >"$root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=dumb
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp
ip link set lo up
for module in $(basename -a "${MODULES[@]}" | tr '\n' ' '); do insmod /modules/\$module.ko; done
if [ -x /hold-vm ]; then /hold-vm & sleep 1; fi
echo "--- box: begin, nested paging \$(cat $STAGE2), Linux \$(uname -r)"
sh /command
echo \$? >/status
echo "--- box: end, status \$(cat /status)"
# stty waits until the port has sent everything, however slow it is.
exec 3<>/dev/ttyS1
stty raw 115200 <&3
tar -C / -cz status out >&3
stty raw <&3
echo "--- box: off"
poweroff -f
INIT
    chmod +x "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd"
    rm -rf "$root"
}

# Shows the command's console as it comes, until the guest is off or the time is over.
watch() {
    local deadline=$((SECONDS + limit))
    : >>"$work/console"
    tail --pid="$emulator" -s 0.2 -n +1 -f "$work/console" 2>/dev/null |
        sed -un '/^--- box: begin/,/^--- box: end/p' &
    printer=$!
    until grep -aq '^--- box: off' "$work/console"; do
        kill -0 "$emulator" 2>/dev/null || break
        ((SECONDS < deadline)) || give_up 124 "no end within $limit s; -t gives it longer"
        sleep 0.2
    done
    stop_emulator
    wait "$printer" || true
    printer=""
}

stop_emulator() {
    [[ ${emulator:-} ]] || return 0
    kill -KILL "$emulator" 2>/dev/null || true
    wait "$emulator" 2>/dev/null || true
    emulator=""
}

# give_up STATUS MESSAGE. Before the command's console is shown, the emulator's own words say why.
give_up() {
    stop_emulator
    if ! grep -aq '^--- box: begin' "$work/console"; then
        tail -n 20 "$work/emulator.log" "$work/console" >&2
    fi
    die "$1" "$2"
}

# Unpacks what the guest sent over its second serial port. gzip's checksum guards it.
take_results() {
    mkdir "$work/back"
    tar -C "$work/back" -xzf "$work/results" 2>/dev/null ||
        give_up 125 "the guest ended without a status"
    if [[ $out ]]; then
        cp -R "$work/back/out/." "$out/"
    fi
    exit "$(<"$work/back/status")"
}

clean_up() {
    stop_emulator
    if [[ ${printer:-} ]]; then
        wait "$printer" 2>/dev/null || true
    fi
    rm -rf "$work"
}

main() {
    parse "$@"
    need_programs
    work=$(mktemp -d)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    fetch_system
    pack_initrd
    start_emulator
    watch
    take_results
}

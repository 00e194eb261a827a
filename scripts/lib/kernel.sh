# Kernels for the VM: fetched as packages, unpacked below build/vm/kernel, never installed. Sourced by bash after common.sh.
# shellcheck shell=bash
#
#   build/vm/kernel/6.1.0-40-amd64/          one directory a kernel
#       boot/vmlinuz-6.1.0-40-amd64
#       lib/modules/6.1.0-40-amd64/          with modules.dep
#   build/vm/kernel/stock, …/backports       symbolic links to the one that was current when it was fetched
#   build/vm/boot/VERSION-KEY/               what the VM boots from: kernel, initramfs
#   build/vm/apt/                            a private apt: sources, lists and cache of bookworm-backports

kernel_cache=$vm_cache/kernel

# The status of a script when the mirror does not have the kernel asked for, so that a test can skip itself.
readonly kernel_unavailable=77

# kernel_find NAME : sets kernel_dir and kernel_version; NAME is stock, backports, a version, or a directory laid out as above.
# Fetches and unpacks the kernel when it is not in the cache. Ends the script when there is no such kernel.
kernel_find() {
    local name=$1
    case $name in
        */*) kernel_dir=$(cd "$name" 2>/dev/null && pwd -P) || die 125 "no kernel directory $name" "Unpack a kernel package there: dpkg -x PACKAGE.deb $name" ;;
        *)
            kernel_dir=$kernel_cache/$name
            [[ -e $kernel_dir ]] || kernel_fetch "$name"
            kernel_dir=$(readlink -f "$kernel_dir")
            ;;
    esac
    local images=("$kernel_dir"/boot/vmlinuz-*)
    [[ -r ${images[0]} ]] || die 125 "$kernel_dir holds no readable boot/vmlinuz-VERSION"
    kernel_version=${images[0]##*/vmlinuz-}
    [[ -d $kernel_dir/lib/modules/$kernel_version ]] ||
        die 125 "$kernel_dir has a kernel but no lib/modules/$kernel_version" "Unpack the whole kernel package there."
    [[ -e $kernel_dir/lib/modules/$kernel_version/modules.dep ]] || depmod -b "$kernel_dir" "$kernel_version" ||
        die 125 "depmod failed for the modules in $kernel_dir"
}

# kernel_fetch NAME : stock, backports or a version. One process fetches, others wait for it.
kernel_fetch() {
    local name=$1 package lock
    local -a apt_options=(-o APT::Sandbox::User=root)
    mkdir -p "$kernel_cache"
    exec {lock}>"$kernel_cache/.lock"
    flock "$lock"
    if [[ ! -e $kernel_cache/$name ]]; then
        case $name in
            stock) package=linux-image-amd64 ;;
            backports)
                kernel_backports_apt
                package=linux-image-amd64
                ;;
            *)
                package=linux-image-$name
                apt-cache show "$package" >/dev/null 2>&1 || kernel_backports_apt
                ;;
        esac
        if [[ $name == stock || $name == backports ]]; then
            # linux-image-amd64 is empty and depends on the package of one version.
            package=$(apt-cache "${apt_options[@]}" depends --important "$package" 2>/dev/null |
                sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*\)$/\1/p' | head -n 1)
            [[ $package ]] || die $kernel_unavailable "apt knows no $name kernel (package linux-image-amd64)" \
                "Is this Debian on amd64? Run 'apt-get update' and try again."
        fi
        kernel_unpack "$package" "${apt_options[@]}"
        [[ $name == "${package#linux-image-}" ]] || ln -sfn "${package#linux-image-}" "$kernel_cache/$name"
    fi
    exec {lock}>&-
}

# kernel_unpack PACKAGE [APT-OPTION…] : downloads the package, unpacks it to the cache under its version.
kernel_unpack() {
    local package=$1 version=${1#linux-image-} work
    shift
    [[ ! -e $kernel_cache/$version ]] || return 0
    work=$(mktemp -d "$kernel_cache/.unpack.XXXXXX")
    scratch+=("$work")
    say "downloading $package (it is unpacked in build/vm, not installed)"
    if ! (cd "$work" && apt-get -q=2 "$@" download "$package" && dpkg -x ./*.deb root) >"$work/log" 2>&1; then
        cat "$work/log" >&2
        die $kernel_unavailable "could not download the kernel package $package" \
            "Is the version right, and the mirror reachable? 'apt-cache search linux-image' lists versions."
    fi
    # Newer packages keep everything below usr; give both the one layout.
    [[ -e $work/root/lib ]] || ln -s usr/lib "$work/root/lib"
    depmod -b "$work/root" "$version" || die 125 "depmod failed for $package" "Run scripts/setup."
    chmod 755 "$work/root"
    mv "$work/root" "$kernel_cache/$version"
    rm -r "$work"
}

# kernel_backports_apt : adds to apt_options what makes apt use bookworm-backports alone, from the mirror that this machine
# already uses for bookworm, with lists and cache of its own: nothing in /etc/apt, /var/lib/apt or /var/cache/apt changes.
kernel_backports_apt() {
    local apt_dir=$vm_cache/apt mirror signed_by
    # shellcheck disable=SC2016 # the $(…) are apt's
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT) $(LABEL)' 'Created-By: Packages' |
        awk '$2 == "bookworm" && $3 == "main" && $4 == "Debian" { print $1; exit }')
    [[ $mirror ]] || die $kernel_unavailable "this machine's apt has no source for Debian bookworm main" \
        "The backports kernel is fetched from the same mirror: add one, then run 'apt-get update'."
    signed_by=/usr/share/keyrings/debian-archive-keyring.gpg
    mkdir -p "$apt_dir"/{lists,archives}/partial
    printf 'deb [arch=amd64 signed-by=%s] %s bookworm-backports main\n' "$signed_by" "$mirror" >"$apt_dir/sources.list"
    # The machine's hooks (some empty /var/cache/apt after each update) are not for our private lists.
    cat >"$apt_dir/apt.conf" <<END
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::SourceList "$apt_dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State::Lists "$apt_dir/lists";
Dir::Cache "$apt_dir";
Acquire::Languages "none";
END
    apt_options+=(-c "$apt_dir/apt.conf")
    say "reading the package list of bookworm-backports"
    apt-get "${apt_options[@]}" -q=2 --error-on=any update >"$apt_dir/log" 2>&1 || {
        cat "$apt_dir/log" >&2
        die $kernel_unavailable "this machine's Debian mirror does not offer bookworm-backports" "Use --kernel stock."
    }
}

# kernel_boot_files : sets boot_dir to a directory with the kernel and the initramfs to boot kernel_dir from, which it makes when
# there is none yet for this kernel and these scripts.
kernel_boot_files() {
    local key work applet vmlinuz=$kernel_dir/boot/vmlinuz-$kernel_version
    key=$({ cat "$lunkit_root/scripts/lib/"{vm-init,kernel.sh} && stat -c '%n %s %Y' "$vmlinuz"; } | sha256sum)
    boot_dir=$vm_cache/boot/$kernel_version-${key:0:16}
    [[ ! -e $boot_dir ]] || return 0

    mkdir -p "$vm_cache/boot"
    work=$(mktemp -d "$vm_cache/boot/.make.XXXXXX")
    scratch+=("$work")
    kernel_decompress "$vmlinuz" "$work/kernel" || cp "$vmlinuz" "$work/kernel"

    mkdir -p "$work"/root/{bin,dev,proc,lower,upper,root,modules.d}
    cp "$(type -P busybox)" "$work/root/bin/busybox"
    for applet in sh mount mkdir ln grep ip insmod mknod switch_root; do
        ln -s busybox "$work/root/bin/$applet"
    done
    install -m 755 "$lunkit_root/scripts/lib/vm-init" "$work/root/init"
    kernel_pack_modules boot virtio_pci 9pnet_virtio 9p overlay
    kernel_pack_modules target target_core_mod target_core_user tcm_loop sd_mod sg
    (cd "$work/root" && find . -print0 | cpio --null --quiet -o -H newc) >"$work/initramfs" ||
        die 125 "could not make an initramfs in $work"
    rm -r "$work/root"
    chmod 755 "$work"
    # Another process may have been faster, which is as good; an older one for the same kernel is of no more use.
    mv -T "$work" "$boot_dir" 2>/dev/null || rm -r "$work"
    for work in "$vm_cache/boot/$kernel_version"-*; do
        [[ $work == "$boot_dir" ]] || rm -r "$work"
    done
}

# kernel_pack_modules LIST MODULE… : part of kernel_boot_files. Puts the modules and those that they need into the initramfs, and
# their names into its file modules.LIST, in the order to load them.
kernel_pack_modules() {
    local list=$1 path name
    shift
    modprobe -d "$kernel_dir" -S "$kernel_version" --show-depends -a "$@" >"$work/$list" ||
        die 125 "the kernel in $kernel_dir lacks a module (of $*)" "Use another kernel: see --kernel."
    while read -r _ path; do
        name=${path##*/}
        name=${name%.xz}
        [[ ! -e $work/root/modules.d/$name ]] || continue
        case $path in
            *.xz) xz -dc "$path" ;;
            *) cat "$path" ;;
        esac >"$work/root/modules.d/$name"
        echo "$name"
    done < <(grep ^insmod "$work/$list") >"$work/root/modules.$list"
    rm "$work/$list"
}

# kernel_decompress VMLINUZ TARGET : unpacks the ELF kernel inside a bzImage. QEMU boots it directly (PVH), which spares the slow
# emulated decompression: 3 of 5 seconds under TCG. Fails, without a message, on a format that it does not know.
kernel_decompress() {
    local setup_sectors offset length size
    # Fields of the boot header: Documentation/x86/boot.rst, setup_sects, payload_offset, payload_length. The payload's last
    # four bytes are its size when decompressed.
    setup_sectors=$(od -An -tu1 -j 497 -N 1 "$1")
    read -r offset length < <(od -An -tu4 -j 584 -N 8 "$1")
    offset=$(((setup_sectors + 1) * 512 + offset))
    size=$(od -An -tu4 -j $((offset + length - 4)) -N 4 "$1")
    # A decompressor complains of these four bytes, after having done its work: the size tells whether it has.
    case $(od -An -tx1 -j $offset -N 4 "$1") in
        *"fd 37 7a 58") set -- "$@" xz -dc --single-stream ;;
        *"28 b5 2f fd") set -- "$@" zstd -dcq ;;
        *"1f 8b"*) set -- "$@" gzip -dc ;;
        *) return 1 ;;
    esac
    tail -c +$((offset + 1)) "$1" | head -c "$length" | "${@:3}" >"$2" 2>/dev/null
    (($(stat -c %s "$2") == size))
}

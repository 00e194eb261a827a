#!/bin/bash
# limit: 300 seconds
# Installed where Debian expects it and run by systemd, as a user has it: the unit's restrictions let it work, systemd starts it again, a stop and an upgrade keep disks alive.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
kill_lunkitd TERM
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

step 'install'
cmake --install "$LUNKIT_BUILD" >"$work/install"
systemd-sysusers

step 'systemd, in namespaces of its own: its own processes, /run and bus, and only the units that count here'
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
units=$work/units
mkdir "$units"
for unit in sysinit basic sockets shutdown local-fs remote-fs; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$units/$unit.target"
done
cp /lib/systemd/system/{dbus.service,dbus.socket,modprobe@.service,lunkitd.service,lunkit-restore.service} "$units"
cat >"$work/boot" <<'END'
mount --make-rprivate /
mkdir -p /mnt/udev
mount --bind /run/udev /mnt/udev
mount -t tmpfs -o mode=755 run /run
mkdir /run/udev
mount --move /mnt/udev /run/udev
mount -t proc proc /proc
exec env container=lunkit-test SYSTEMD_UNIT_PATH="$1" /lib/systemd/systemd --system --unit=dbus.service --log-target=kmsg \
    --default-standard-output=kmsg --show-status=no
END
unshare --pid --fork --mount --kill-child bash "$work/boot" "$units" >"$LUNKIT_LOGS/systemd.log" 2>&1 </dev/null &
outer=$!
init=''
find_init() {
    init=$(pgrep -P $outer) && [[ $(cat "/proc/$init/comm") == systemd ]]
}
wait_for 30 'systemd runs' find_init

# inside COMMAND… : in systemd's namespaces.
inside() {
    nsenter --target "$init" --pid --mount -- "$@"
}

bus_answers() {
    inside systemctl is-active dbus.service || inside systemctl start dbus.service
}
wait_for 60 'the bus runs' bus_answers

service_is() {
    [[ $(inside systemctl is-active lunkitd.service) == "$1" ]]
}

main_pid() {
    inside systemctl show --value --property MainPID lunkitd.service
}

say_log() {
    inside systemctl status --no-pager --lines 30 lunkitd.service || true
    dmesg | grep -E 'systemd|lunkit' | tail -n 40
}

step 'start'
inside systemctl start lunkitd.service || {
    say_log
    fail 'lunkitd.service does not start'
}
# Any list, even one that another setting implies, would forbid uio devices and every block device that is not on it.
expect_equal 'devices that the unit is limited to' '' "$(inside systemctl show --value --property DeviceAllow lunkitd.service)"
expect_equal 'device policy' auto "$(inside systemctl show --value --property DevicePolicy lunkitd.service)"
inside lunkit doctor | tee "$work/doctor"

step 'a disk'
new_image disk 32M
fill "$image"
device=$(inside lunkit attach --persist --name unit "$image" | head -n 1)
expect_match device '^/dev/sd' "$device"
same_as "$device" "$image"
fio_job installed --rw=randrw --verify=crc32c --verify_fatal=1 --ioengine=libaio --iodepth=16 --bs=4k --size=8M

step 'systemd starts a lunkitd that was killed again, under I/O'
fio --name=kill --filename="$device" --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw --bs=4k --size=16M --time_based --runtime=15 --verify=crc32c \
    --verify_fatal=1 --verify_backlog=64 --eta=never >"$work/fio.log" 2>&1 &
fio=$!
sleep 2
first=$(main_pid)
inside kill -KILL "$first"
restarted() {
    service_is active && [[ $(main_pid) != "$first" && $(main_pid) != 0 ]]
}
wait_for 30 'systemd has started another' restarted
step 'an upgrade: systemctl restart'
sleep 2
inside systemctl restart lunkitd.service
wait $fio || fail "fio: $(cat "$work/fio.log")"
same_as "$device" "$image"

step 'a stop keeps the disk, a start serves it again'
inside systemctl stop lunkitd.service
[[ ! $(worker_pids) ]] || fail 'a worker has outlived the stop'
inside systemctl start lunkitd.service
same_as "$device" "$image"

step 'detached but not forgotten, and attached again by lunkit-restore'
inside busctl call org.lunkit1 /org/lunkit1 org.lunkit1.Manager Detach 'sa{sv}' unit 1 forget b false
inside systemctl start lunkit-restore.service
device=$(inside lunkit list --json | grep -oE '/dev/sd[a-z]+' | head -n 1)
same_as "$device" "$image"
inside lunkit detach unit

step 'end'
inside systemctl stop lunkitd.service
inside systemctl is-failed lunkitd.service lunkit-restore.service && {
    say_log
    fail 'a unit failed'
}
kill -KILL "$init"
wait $outer || true
start_lunkitd

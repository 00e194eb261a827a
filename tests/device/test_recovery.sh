#!/bin/bash
# limit: 240 seconds
# Workers and lunkitd die while fio writes and verifies: it sees delays, no errors, and right data.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 64M
attach "$image"
name=$(lun_property "$device" name)

# background_fio NAME SECONDS : verifying reads and writes for that long; its result is taken by fio_result.
background_fio() {
    fio --name="$1" --filename="$device" --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw --bs=4k --size=24M --time_based --runtime="$2" \
        --verify=crc32c --verify_fatal=1 --verify_backlog=128 --eta=never --output-format=normal >"$work/fio.log" 2>&1 &
    fio=$!
    sleep 1.5
    [[ -d /proc/$fio ]] || fail "fio has ended early: $(<"$work/fio.log")"
}

fio_result() {
    wait $fio || fail "fio: $(cat "$work/fio.log")"
    grep -E 'err= *[1-9]' "$work/fio.log" && fail 'fio counted errors'
    echo "  longest request: $(grep -oE 'clat \((usec|msec|nsec)\).*max= *[^,]*' "$work/fio.log" | sed 's/.*(\(.*\)).*max= */\1 /' | tr '\n' ' ')"
    same_as "$device" "$image"
}

step 'kill -9 of the worker, four times'
background_fio worker 9
for ((i = 1; i <= 4; i++)); do
    worker=$(lun_property "$name" worker-pid)
    kill -KILL "$worker"
    wait_for 10 'a new worker serves' new_worker "$name" "$worker"
    sleep 0.7
done
fio_result
expect_equal restarts 4 "$(lun_property "$name" restarts)"

step 'kill -9 of lunkitd, its workers end, a new one takes over'
background_fio daemon 8
for ((i = 1; i <= 2; i++)); do
    worker=$(lun_property "$name" worker-pid)
    kill_lunkitd KILL
    wait_for 10 'the worker has ended' process_ended "$worker"
    start_lunkitd
    wait_for 10 'a new worker serves' new_worker "$name" "$worker"
    sleep 0.5
done
fio_result

step 'kill -9 of both at once'
background_fio both 6
worker=$(lun_property "$name" worker-pid)
kill -KILL "$(<"$daemon_pid_file")" "$worker"
wait_for 10 'lunkitd has ended' process_ended "$(<"$daemon_pid_file")"
start_lunkitd
wait_for 10 'a new worker serves' new_worker "$name" "$worker"
fio_result

step 'an upgrade: SIGTERM, and a new lunkitd'
background_fio upgrade 6
worker=$(lun_property "$name" worker-pid)
kill_lunkitd TERM
wait_for 10 'the worker has ended' process_ended "$worker"
start_lunkitd
wait_for 10 'a new worker serves' new_worker "$name" "$worker"
fio_result

step 'a worker that stands still for a while'
background_fio stopped 5
worker=$(lun_property "$name" worker-pid)
kill -STOP "$worker"
sleep 2
kill -CONT "$worker"
fio_result

step 'a worker that stands still for good is replaced'
background_fio stuck 40
worker=$(lun_property "$name" worker-pid)
kill -STOP "$worker"
wait_for 40 'a new worker serves' new_worker "$name" "$worker"
fio_result

step 'what an initiator has set outlives lunkitd'
cache_type=$(echo "/sys/class/block/${device##*/}/device/scsi_disk/"*/cache_type)
echo 'write through' >"$cache_type"
expect_match 'the caching page' '08 12 00' "$(sg_modes --page=8 "$device")"
kill_lunkitd KILL
start_lunkitd
wait_for 10 'the LUN serves' lun_state_is "$name" serving
expect_match 'the caching page' '08 12 00' "$(sg_modes --page=8 "$device")"
echo 'write back' >"$cache_type"
expect_match 'the caching page' '08 12 04' "$(sg_modes --page=8 "$device")"

step 'another file that gets the name of an image in use is not taken for it'
other=$work/replaced
truncate -s 8M "$other"
fill "$other"
lunkit attach --name replaced "$other" >/dev/null
mv "$other" "$other.aside"
truncate -s 8M "$other"
kill -KILL "$(lun_property replaced worker-pid)"
wait_for 60 'it is held' lun_state_is replaced held
expect_match reason 'another file' "$(lun_property replaced reason)"
kill_lunkitd KILL
start_lunkitd
wait_for 60 'it is held' lun_state_is replaced held
mv "$other.aside" "$other"
lunkit attach "$other" >/dev/null
wait_for 10 'it serves' lun_state_is replaced serving
same_as "$(lun_device replaced)" "$other"
detach replaced

step 'one that keeps dying is held, and reported'
other=$work/healthy
truncate -s 8M "$other"
lunkit attach --name healthy "$other" >/dev/null
for ((i = 0; i < 12; i++)); do
    ! lun_state_is "$name" held || break
    worker=$(lun_property "$name" worker-pid)
    [[ $worker == 0 ]] || kill -KILL "$worker" || true
    wait_for 10 'a new worker, or none any more' eval "lun_state_is $name held || new_worker $name $worker"
done
lun_state_is "$name" held || fail "it is not held after $i deaths"
expect_match 'status of a held LUN' 'held' "$(lunkit status "$name")"
reason=$(lun_property "$name" reason)
[[ $reason ]] || fail 'no reason is given'
echo "  held: $reason"
lun_state_is healthy serving || fail 'the other LUN suffers'
dd if=/dev/urandom of="$(lun_device healthy)" bs=4k count=1 oflag=direct status=none
detach healthy

step 'a held LUN can be taken away'
detach --force "$name"
step 'done'

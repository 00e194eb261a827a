#!/bin/bash
# limit: 150 seconds
# A virtual machine on a vhost-scsi LUN: SeaBIOS boots from it, and the boot sector below reads and writes it through INT 13h.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
modprobe vhost_scsi || skip 'this kernel has no vhost_scsi'
[[ -c /dev/vhost-scsi ]] || skip 'there is no /dev/vhost-scsi'

step 'assembling the boot sector'
# It reads 8 blocks at 64, inverts every byte, writes them at 2048, reads these again, compares, and ends QEMU: status 2*code+1.
cat >"$work/boot.s" <<'END'
.code16
.globl _start
_start:
    ljmp $0, $1f
1:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movb %dl, drive
    movl $64, lba           # read
    movw $0x8000, buffer
    movb $0x42, %ah
    movb $0x11, %cl
    call disk
    movw $0x8000, %si       # invert
    movw $2048, %cx
2:  notw (%si)
    addw $2, %si
    loop 2b
    movl $2048, lba         # write
    movw $0x4300, %ax
    movb $0x12, %cl
    call disk
    movw $0xa000, buffer    # read again
    movb $0x42, %ah
    movb $0x13, %cl
    call disk
    movw $0x8000, %si       # compare
    movw $0xa000, %di
    movw $2048, %cx
    repe cmpsw
    movb $0x14, %al
    jne exit
    movb $0x21, %al
exit:
    outb %al, $0xf4
    hlt
disk:                       # %ah: the function, %cl: the code for its failure
    pushw %cx
    movb drive, %dl
    movw $packet, %si
    int $0x13
    popw %cx
    movb %cl, %al
    jc exit
    ret
drive: .byte 0
    .balign 4
packet: .byte 16, 0
    .word 8
buffer: .word 0
    .word 0
lba: .long 0
    .long 0
    .org 510
    .word 0xaa55
END
as --32 -o "$work/boot.o" "$work/boot.s"
ld -m elf_i386 --oformat binary -Ttext 0x7c00 -o "$work/boot" "$work/boot.o"
expect_equal 'size of the boot sector' 512 "$(stat -c %s "$work/boot")"

new_image disk 16M
dd if="$work/boot" of="$image" conv=notrunc status=none
dd if=/dev/urandom of="$image" bs=512 seek=64 count=8 conv=notrunc status=none

step 'attaching it for a VM'
attach --fabric vhost --name guest "$image"
expect_match WWPN '^naa\.[0-9a-f]{16}$' "$device"
arguments=$(lunkit attach --fabric vhost --print qemu "$image")
expect_match 'arguments for QEMU' "vhost-scsi-pci.*$device" "$arguments"
xml=$(lunkit attach --fabric vhost --print libvirt "$image")
expect_match 'XML for libvirt' "scsi_host.*$device" "$xml"
expect_error 'loop' -- lunkit attach --fabric loop --print qemu "$image"

step 'booting'
status=0
# shellcheck disable=SC2086 # words, as a user would have it
timeout 100 qemu-system-x86_64 -accel tcg -m 64 -nodefaults -display none -no-reboot -no-user-config \
    -device isa-debug-exit,iobase=0xf4,iosize=1 ${arguments/vhost-scsi-pci,/vhost-scsi-pci,bootindex=1,} >"$work/qemu.log" 2>&1 || status=$?
expect_equal "QEMU's status ($(<"$work/qemu.log"))" $((0x21 * 2 + 1)) "$status"

step 'what it wrote is in the image'
dd if="$image" bs=512 skip=2048 count=8 of="$work/got" status=none
dd if="$image" bs=512 skip=64 count=8 status=none | perl -0777 -pe '$_ = ~$_' >"$work/wanted"
cmp "$work/wanted" "$work/got"
detach guest

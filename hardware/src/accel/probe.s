# The guest that asks whether a hypervisor is real. From the reset vector it goes by protected mode into long
# mode with paging, adds a little, and writes 0x2a to port 0xf4: QEMU's isa-debug-exit ends with 0x2a * 2 + 1.
#
#   as --64 -o probe.o probe.s && ld -Ttext=0 -o probe.elf probe.o && objcopy -O binary probe.elf probe.bin
#
# accel.rs holds the first octets of probe.bin, up to the padding, and the jump at 0xfff0.
.code16
.text
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    # Page tables: the first 2 MiB, and the 2 MiB below 4 GiB where this ROM is.
    movw $0x1000, %di
    movl $0x2003, (%di)
    movl $0, 4(%di)
    movw $0x2000, %di
    movl $0x3003, (%di)
    movl $0, 4(%di)
    movl $0x4003, 24(%di)
    movl $0, 28(%di)
    movw $0x3000, %di
    movl $0x83, (%di)
    movl $0, 4(%di)
    movw $0x4ff8, %di
    movl $0xffe00083, (%di)
    movl $0, 4(%di)
    movl $0x1000, %eax
    movl %eax, %cr3
    movl $0x20, %eax
    movl %eax, %cr4
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    lgdtl %cs:gdtr
    movl $0x80000011, %eax
    movl %eax, %cr0
    ljmpl $8, $(0xffff0000 + long)
.code64
long:
    xorl %ebx, %ebx
    movabsq $0x123456789abcdef0, %rax
    movl $1000, %ecx
1:  addq %rax, %rbx
    loop 1b
    movl $0x2a, %eax
    outb %al, $0xf4
2:  hlt
    jmp 2b
    .balign 8
gdt: .quad 0, 0x00209b0000000000, 0x0000930000000000
gdtr: .word 23
    .long 0xffff0000 + gdt
    .org 0xfff0
.code16
    jmp _start
    .org 0xffff
    .byte 0

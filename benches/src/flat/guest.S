# A guest that any VMM starts from the reset vector: it fills pages with their numbers, and then reads them over
# and over in an order without pattern. What took long is written down, where `guest.rs` says.

    .set HERE, 0xfffff000               # the last page of the ROM, where this lies
    .set PML4, 0x1000
    .set PDPT, 0x2000
    .set PD, 0x3000
    .set STACK, 0x9000
    .set COPY, 0x10000                  # where it goes on: the tables of the CPU must be mapped
    .set CODE32, 0x08
    .set DATA, 0x10
    .set CODE64, 0x18
    .set USER_DATA, 0x23
    .set USER_CODE, 0x2b
    .set MSR_EFER, 0xc0000080
    .set EFER_LME, 0x100
    .set LARGE_USER, 0x87               # present, writable, open to CPL 3, 2 MiB

    .section .rodata.flat_guest, "a", @progbits
    .global flat_guest, flat_guest_end
flat_guest:
    .code16
real_mode:
    mov $0xff, %al                      # both 8259s masked: nothing interrupts
    out %al, $0x21
    out %al, $0xa1
    lgdtl %cs:(0xf000 + gdtr_rom - flat_guest)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $CODE32, $(HERE + protected - flat_guest)

    .code32
protected:
    mov $DATA, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $STACK, %esp
    cld
    mov $HERE, %esi
    mov $COPY, %edi
    mov $1024, %ecx
    rep movsl
    ljmpl $CODE32, $(COPY + in_memory - flat_guest)
in_memory:
    lgdtl COPY + gdtr_ram - flat_guest
    movl $PDPT + 7, PML4
    movl $PD + 7, PDPT
    mov $LARGE_USER, %eax
    mov $PD, %edi
1:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    cmp ${MEMORY} + LARGE_USER, %eax
    jb 1b
    mov $0x20, %eax                     # PAE
    mov %eax, %cr4
    mov $PML4, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $0x80010011, %eax               # PG, WP, ET, PE; caches on
    mov %eax, %cr0
    ljmpl $CODE64, $(COPY + long_mode - flat_guest)

    .code64
long_mode:
    mov $1, %eax
    cpuid
    shr $24, %ebx
    mov %ebx, %ebp                      # the CPU's number
    push $USER_DATA
    push $STACK
    push $0x202
    push $USER_CODE
    push $(COPY + fill - flat_guest)
    iretq

# Here and below at CPL 3, which no host emulates.
fill:
    mov ${AREA}, %edi
    xor %ecx, %ecx
1:  mov %rcx, %rax
    xor ${MARK}, %rax
    mov %rax, (%rdi)
    add $0x1000, %rdi
    inc %ecx
    cmp ${PAGES}, %ecx
    jb 1b
    mov %ebp, %ebx
    shl ${HEADER_SHIFT}, %ebx
    add ${HEADER}, %ebx
    movq $1, {READY}(%rbx)
    imul $7919, %ebp, %esi              # the page's number
read:
    imul $2485, %esi, %esi              # a full period: 2485 is 1 modulo 4, 1013 is odd
    add $1013, %esi
    and ${PAGES} - 1, %esi
    mov %esi, %edi
    shl $12, %edi
    add ${AREA}, %edi
    lfence
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    mov %rax, %r8
    mov (%rdi), %r9
    lfence
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    sub %r8, %rax
    incq {READS}(%rbx)
    xor ${MARK}, %r9
    cmp %rsi, %r9
    jne wrong
    cmp ${LONG}, %rax
    jb read
    mov {CURSOR}(%rbx), %rcx
    movzx %cx, %edx                     # the log has 65,536 places, of 8 bytes
    mov %eax, {LOG}(%rbx,%rdx,8)
    mov %esi, {LOG} + 4(%rbx,%rdx,8)
    inc %rcx
    mov %rcx, {CURSOR}(%rbx)
    jmp read
wrong:
    incq {WRONG}(%rbx)
    jmp read

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 0x08 code, 32-bit
    .quad 0x00cf93000000ffff            # 0x10 data
    .quad 0x00af9b000000ffff            # 0x18 code, 64-bit
    .quad 0x00cff3000000ffff            # 0x20 user data
    .quad 0x00affb000000ffff            # 0x28 user code, 64-bit
gdt_end:
gdtr_rom:
    .word gdt_end - gdt - 1
    .long HERE + gdt - flat_guest
gdtr_ram:
    .word gdt_end - gdt - 1
    .long COPY + gdt - flat_guest

    .org flat_guest + 0xff0
    .code16
    cli
    jmp real_mode
    .org flat_guest + 0x1000
    .code64
flat_guest_end:
    .text

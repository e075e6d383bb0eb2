# From a PVH loader, or from INIT-SIPI, to kernel_entry. Short, because every instruction in ring 0
# may be emulated at more than a microsecond; integer only, because emulators know little else.

    .set KERNEL_CODE, 0x08
    .set KERNEL_DATA, 0x10
    .set USER_CODE, 0x1b
    .set USER_DATA, 0x23
    .set TSS_SELECTOR, 0x28
    .set BOOT_CODE32, 0x30
    .set TSS, 0x100                     # within a descriptor page
    .set GDTR, 0x1f0
    .set CR4_BITS, 0x620                # PAE, OSFXSR, OSXMMEXCPT
    .set CR0_BITS, 0x80010033           # PG, WP, NE, ET, MP, PE
    .set MSR_EFER, 0xc0000080
    .set EFER_LME, 0x100

    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18                      # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

    .section .trap.text, "ax", @progbits
    .code32
    .global pvh_entry
pvh_entry:
    mov %ebx, firmware_start_info
    mov $0xff, %al                      # both 8259s masked: the local APIC is all we use
    out %al, $0x21
    out %al, $0xa1
    jmp long_mode

# Application processors. The trampoline is copied to {TRAMPOLINE}; only its own addresses move.
    .code16
    .global firmware_trampoline_start, firmware_trampoline_end
firmware_trampoline_start:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl {TRAMPOLINE} + (trampoline_gdtr - firmware_trampoline_start)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $BOOT_CODE32, $ap_protected
    .balign 4
trampoline_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
firmware_trampoline_end:

    .code32
ap_protected:
    mov $KERNEL_DATA, %ax
    mov %ax, %ds
long_mode:
    mov $CR4_BITS, %eax
    mov %eax, %cr4
    mov firmware_page_table, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $CR0_BITS, %eax
    mov %eax, %cr0
    lgdtl boot_gdtr
    ljmpl $KERNEL_CODE, $cpu_start

    .code64
# One CPU: its GDT, TSS and header, then the kernel. Nothing but its number is known.
cpu_start:
    mov firmware_ap_cpu, %ebp
    mov %ebp, %eax
    shl $12, %eax
    lea firmware_headers(%eax), %ebx     # the header
    lea firmware_descriptor_pages(%eax), %edx
    mov $boot_gdt, %esi
    mov %edx, %edi
    mov $5, %ecx
    cld
    rep movsq
    # TSS descriptor: base in four pieces, limit 0x67, present, available 64-bit TSS
    lea TSS(%rdx), %ecx
    movw $0x67, TSS_SELECTOR(%rdx)
    mov %cx, TSS_SELECTOR+2(%rdx)
    mov %ecx, %eax
    shr $16, %eax
    mov %al, TSS_SELECTOR+4(%rdx)
    movb $0x89, TSS_SELECTOR+5(%rdx)
    mov %ah, TSS_SELECTOR+7(%rdx)
    # TSS: RSP0, IST1, IST2, no I/O map
    lea {TRAP_TOP}(%rbx), %eax
    mov %eax, TSS+0x04(%rdx)
    mov %eax, TSS+0x24(%rdx)
    lea {SERVICE_TOP}(%rbx), %eax
    mov %eax, TSS+0x2c(%rdx)
    movw $0x68, TSS+0x66(%rdx)
    movw $0x37, GDTR(%rdx)
    mov %edx, GDTR+2(%rdx)
    lgdt GDTR(%rdx)
    lidt idtr
    mov $TSS_SELECTOR, %ax
    ltr %ax
    xor %eax, %eax
    mov %ax, %fs
    mov %ax, %gs
    mov %ax, %ss
    mov %ax, %ds
    mov %ax, %es
    mov %ebp, {ID}(%rbx)
    movl $1, {MASKED}(%rbx)

    cmpl $0, firmware_kernel_cpl
    jns enter_kernel                    # the boot CPU has decided
    # How fast is ring 0? The least of three tries, so that neither an interrupt of the host nor the
    # first run of a translator counts.
    mov $3, %r8d
    mov $-1, %r9
1:  rdtsc
    mov %eax, %esi
    .rept 30
    add $1, %edi
    .endr
    rdtsc
    sub %esi, %eax
    cmp %r9, %rax
    cmovb %rax, %r9
    dec %r8d
    jnz 1b
    mov %r9, firmware_ring0_ticks
    xor %eax, %eax
    cmp ${NATIVE_TICKS}, %r9
    jb 2f
    mov $3, %eax
2:  mov %eax, firmware_kernel_cpl

enter_kernel:
    # Where traps go: the upcall, at the kernel's level, with RSP pointing at this very frame.
    lea {UPCALL}(%rbx), %ecx
    movl $firmware_upcall, (%rcx)
    mov %ecx, 24(%rcx)
    mov firmware_ap_stack, %rsp
    sub $8, %rsp                        # as after a call: RSP is 8 past a multiple of 16
    mov %ebp, %edi
    mov %ebx, %esi
    mov firmware_start_info, %edx
    cmpl $0, firmware_kernel_cpl
    jne 3f
    movl $KERNEL_CODE, 8(%rcx)
    movl $2, 16(%rcx)
    xor %ebp, %ebp
    jmp kernel_entry
3:  movl $USER_CODE, 8(%rcx)
    movl $0x202, 16(%rcx)
    movl $USER_DATA, 32(%rcx)
    mov %rsp, %rax
    lea {TRAP_TOP}(%rbx), %esp
    push $USER_DATA
    push %rax
    push $0x202
    push $USER_CODE
    push $kernel_entry
    iretq

    .section .trap.data, "aw", @progbits
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08 code, 64-bit
    .quad 0x00cf93000000ffff            # 0x10 data
    .quad 0x00affb000000ffff            # 0x18 user code, 64-bit
    .quad 0x00cff3000000ffff            # 0x20 user data
    .quad 0                             # 0x28 (TSS in the CPU's own table)
    .quad 0x00cf9b000000ffff            # 0x30 code, 32-bit
boot_gdt_end:
boot_gdtr:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt
idtr:
    .word 4095
    .quad firmware_idt
    .balign 8
    .global firmware_kernel_cpl, firmware_ring0_ticks, firmware_ap_cpu, firmware_ap_stack
firmware_ring0_ticks: .quad 0
firmware_ap_stack: .quad firmware_stack_top
firmware_start_info: .long 0
    .global firmware_page_table
firmware_page_table: .long boot_pml4
firmware_ap_cpu: .long 0
firmware_kernel_cpl: .long -1

# The first 4 GiB by 2 MiB entries, identity, writable and open to CPL 3.
    .section .boot_table, "aw", @progbits
    .balign 4096
boot_pml4:
    .quad boot_pdpt + 7
    .fill 511, 8, 0
boot_pdpt:
    .quad boot_pd + 0x0007, boot_pd + 0x1007, boot_pd + 0x2007, boot_pd + 0x3007
    .fill 508, 8, 0
boot_pd:
    .set address, 0
    .rept 2048
    .quad address + 0x87
    .set address, address + 0x200000
    .endr

    .section .descriptor, "aw", @nobits
    .balign 4096
    .global firmware_idt, firmware_descriptor_pages
firmware_idt: .skip 4096
firmware_descriptor_pages: .skip 4096 * {MAX_CPUS}

    .section .stack, "aw", @nobits
    .balign 4096
    .skip 32768
firmware_stack_top:

    .section .header, "aw", @nobits
    .balign 4096
    .global firmware_headers
firmware_headers: .skip 4096 * {MAX_CPUS}
    .text

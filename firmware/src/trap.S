# The ring-0 trap layer, and the upcall that continues at the kernel's own level.
# Every gate is an interrupt gate with a stack of its own, whose top lies at a fixed offset from the
# CPU's header: so the header is found from RSP, without a segment base.

    .section .trap.text, "ax", @progbits
    .code64

    .set FROM_IRQ, 40 - {TRAP_TOP}      # RSP + this = header: RIP CS RFLAGS RSP SS pushed
    .set FROM_PF, 48 - {TRAP_TOP}       # the same, after an error code
    .set FROM_EXC, 56 - {TRAP_TOP}      # the same, after error code and vector
    .set FROM_SVC, 40 - {SERVICE_TOP}

# An interrupt: handed over if the kernel is open, else noted.
    .macro irq name, vector, bit
    .balign 16
    .global \name
\name:
    cmpl $0, FROM_IRQ+{MASKED}(%rsp)
    jne 1f
    movl $1, FROM_IRQ+{MASKED}(%rsp)
    movl $\vector, FROM_IRQ+{VECTOR}(%rsp)
    mov %rax, FROM_IRQ+{RAX}(%rsp)
    mov (%rsp), %rax
    mov %rax, FROM_IRQ+{RIP}(%rsp)
    mov 16(%rsp), %rax
    mov %rax, FROM_IRQ+{RFLAGS}(%rsp)
    mov 24(%rsp), %rax
    mov %rax, FROM_IRQ+{RSP}(%rsp)
    lea FROM_IRQ+{UPCALL}(%rsp), %rsp
    iretq
1:  orl $\bit, FROM_IRQ+{PENDING}(%rsp)
    .if \bit == {PENDING_TIMER}
    push %rax                           # not to the header: a trap may be on its way out of it
    mov 8(%rsp), %rax
    mov %rax, FROM_IRQ+8+{MASKED_RIP}(%rsp)
    pop %rax
    .endif
    iretq
    .endm

    irq firmware_timer, {VECTOR_TIMER}, {PENDING_TIMER}
    irq firmware_ipi, {VECTOR_IPI}, {PENDING_IPI}
    irq firmware_ready, {VECTOR_READY}, {PENDING_READY}

    .global firmware_spurious
firmware_spurious:
    iretq

# Exceptions, and interrupts that nobody asked for.
    .macro exception vector, has_error
exception_\vector:
    .if \has_error == 0
    push $0
    .endif
    .if \vector == 14
    cmpl $0, FROM_PF+{PAGE_EVENT}(%rsp)
    jne page_event
    .endif
    push $\vector
    jmp exception_common
    .endm
    .altmacro
    .macro exceptions first, last
    .set n, \first
    .rept \last - \first + 1
    exception_number %n
    .set n, n + 1
    .endr
    .endm
    .macro exception_number vector
    .if (\vector == 8) || (\vector >= 10 && \vector <= 14) || (\vector == 17) || (\vector == 21) || (\vector == 29) || (\vector == 30)
    exception \vector, 1
    .else
    exception \vector, 0
    .endif
    .endm
    exceptions 0, 31
    .global firmware_stray
firmware_stray:
    push $0
    push $0x101
    jmp exception_common
# A page fault that is KVM's word that a page is away. Nobody else looks at the flag, and KVM sets it again only
# after this: interrupts are off in here.
page_event:
    movl $0, FROM_PF+{PAGE_EVENT}(%rsp)
    cmpl $0, FROM_PF+{MASKED}(%rsp)
    jne 1f
    push ${VECTOR_NOT_PRESENT}
    jmp exception_common
1:  push %rax                           # the header's slots may hold a trap on its way to the kernel
    push %rcx
    mov FROM_PF+16+{DROPPED}(%rsp), %ecx
    and $({DROPPED_TOKENS} - 1), %ecx
    mov %cr2, %rax
    mov %eax, FROM_PF+16+{DROPPED_TOKEN}(%rsp,%rcx,4)
    incl FROM_PF+16+{DROPPED}(%rsp)
    pop %rcx
    pop %rax
    lea 8(%rsp), %rsp
    iretq
exception_common:
    mov %rax, FROM_EXC+{RAX}(%rsp)
    mov FROM_EXC+{MASKED}(%rsp), %eax
    mov %rax, FROM_EXC+{WAS_MASKED}(%rsp)
    movl $1, FROM_EXC+{MASKED}(%rsp)
    mov (%rsp), %rax
    mov %rax, FROM_EXC+{VECTOR}(%rsp)
    mov 8(%rsp), %rax
    mov %rax, FROM_EXC+{ERROR}(%rsp)
    mov 16(%rsp), %rax
    mov %rax, FROM_EXC+{RIP}(%rsp)
    mov 24(%rsp), %rax
    mov %rax, FROM_EXC+{CS}(%rsp)
    mov 32(%rsp), %rax
    mov %rax, FROM_EXC+{RFLAGS}(%rsp)
    mov 40(%rsp), %rax
    mov %rax, FROM_EXC+{RSP}(%rsp)
    mov %cr2, %rax
    mov %rax, FROM_EXC+{CR2}(%rsp)
    mov 24(%rsp), %eax
    and $3, %eax
    cmp firmware_kernel_cpl, %eax
    jne trap_layer_died
    lea FROM_EXC+{UPCALL}(%rsp), %rsp
    iretq
# The trap layer itself trapped: nothing above it can be trusted to report.
trap_layer_died:
    mov (%rsp), %eax
    or $0x80000000, %eax
    mov ${PORT_EXIT}, %edx
    out %eax, %dx
    cli
1:  hlt
    jmp 1b

# Services, by int3 from CPL 3: number in RAX, arguments in RDI and RSI. RAX, RCX, RDX, RSI and RDI
# are lost, or carry results.
    .balign 16
    .global firmware_service
firmware_service:
    cmp $(service_table_end - service_table) / 8, %rax
    jae 1f
    jmp *service_table(,%rax,8)
service_halt:
    cmpl $0, FROM_SVC+{PENDING}(%rsp)
    jne 1f
    sti                                 # takes effect after hlt has begun: no wake-up is lost
    hlt
    cli
1:  iretq
service_console:
    mov %rsi, %rcx
    mov %rdi, %rsi
    mov ${PORT_SERIAL}, %edx
    cld
    rep outsb
    iretq
service_out:
    mov %esi, %eax
    mov %edi, %edx
    out %eax, %dx
    iretq
service_load_page_table:
    mov %rdi, %cr3
    iretq
service_flush_page:
    invlpg (%rdi)
    iretq
service_flush_range:                    # RSI pages, one at least
    invlpg (%rdi)
    add $4096, %rdi
    dec %rsi
    jnz service_flush_range
    iretq
service_flush_all:
    mov %cr3, %rax
    mov %rax, %cr3
    iretq
service_write_msr:
    mov %edi, %ecx
    mov %esi, %eax
    mov %rsi, %rdx
    shr $32, %rdx
    wrmsr
    iretq
service_cpuid:                          # EBX comes back in ESI
    mov %edi, %eax
    xor %ecx, %ecx
    mov %rbx, %rsi
    cpuid
    xchg %rbx, %rsi
    iretq
service_triple_fault:
    lidt empty_idtr
    ud2

    .section .trap.data, "aw", @progbits
    .balign 8
service_table:
    .quad service_halt, service_console, service_out, service_load_page_table, service_flush_page
    .quad service_triple_fault, service_flush_range, service_flush_all, service_write_msr
    .quad service_cpuid
service_table_end:
empty_idtr:
    .word 0
    .quad 0
    .balign 8
    .global firmware_exception_stubs
firmware_exception_stubs:
    .macro stub_address vector
    .quad exception_\vector
    .endm
    .set n, 0
    .rept 32
    stub_address %n
    .set n, n + 1
    .endr
    .noaltmacro

# The upcall, at the kernel's level, RSP pointing into the header. It puts the frame on the
# interrupted stack, below the red zone, and returns without ring 0.
    .text
    .balign 16
    .global firmware_upcall
firmware_upcall:
    mov %rbx, {RBX}-{UPCALL}(%rsp)
    lea -{UPCALL}(%rsp), %rbx
    mov {RSP}(%rbx), %rsp
    lea -128(%rsp), %rsp
    pushq {RIP}(%rbx)
    pushq {RFLAGS}(%rbx)
    pushq {RSP}(%rbx)
    pushq {CS}(%rbx)
    pushq {WAS_MASKED}(%rbx)
    pushq {CR2}(%rbx)
    pushq {ERROR}(%rbx)
    pushq {VECTOR}(%rbx)
    pushq {RAX}(%rbx)
    pushq {RBX}(%rbx)
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    movq $0, {WAS_MASKED}(%rbx)         # interrupts don't set it: they come only when open
    mov %rsp, %rbp
    sub $512, %rsp
    and $-16, %rsp
    fxsave64 (%rsp)
1:  mov %rbx, %rdi
    mov %rbp, %rsi
    call kernel_trap
    mov {FRAME_WAS_MASKED}(%rbp), %eax
    mov %eax, {MASKED}(%rbx)
    test %eax, %eax
    jnz 2f
    # What came before the store above has left its bit; what comes after it is handed over at once.
    cmpq $0, {PENDING}(%rbx)
    je 2f
    movl $1, {MASKED}(%rbx)
    movq ${VECTOR_PENDING}, {FRAME_VECTOR}(%rbp)
    jmp 1b
2:  fxrstor64 (%rsp)
    mov %rbp, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    lea 48(%rsp), %rsp
    popfq
    ret $128

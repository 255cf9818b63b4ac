//! What every object needs: a licence that the kernel knows, and a panic handler.

/// The kernel gives GPL-only helpers to programs under a licence it knows.
// SAFETY: the section name is the one the loader reads a licence from, and nothing else is placed
// there.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without an end, so a program in which a panic could be reached
    // does not load at all.
    loop {}
}

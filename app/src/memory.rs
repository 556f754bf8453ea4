//! How the system's allocator treats large blocks.

/// Keeps freed blocks in the program instead of giving them back to the system.
///
/// Training makes and drops the same large tensors in every update; without this the system takes
/// each back, and clears it again for the next. For commands that only train: the window gives
/// memory back.
pub(crate) fn keep_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "a setting of the C library has no safe name")]
    // SAFETY: plain numbers; called before other threads start.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

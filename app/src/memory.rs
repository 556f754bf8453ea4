//! How the system's allocator treats large blocks.

/// What the program is going to make and drop large blocks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeps {
    /// Drawing. Pieces of 32 MB and more go back to the system at once, of the others up to 256 MB stay for each thread.
    ForDrawing,
    /// Training, which makes and drops the same tensors in every update: all stay.
    ForTraining,
}

/// Keeps freed blocks in the program for what comes next, where the system would take them back and clear them again:
/// forty pictures of the starter took a tenth longer without. To be called before other threads start.
pub(crate) fn keep_blocks(keeps: Keeps) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let (largest, at_the_end) = match keeps {
            // glibc before 2.35 takes no larger first number.
            Keeps::ForDrawing => (32 << 20, 256 << 20),
            Keeps::ForTraining => (1 << 30, i32::MAX),
        };
        #[expect(unsafe_code, reason = "a setting of the C library has no safe name")]
        // SAFETY: plain numbers, and no other thread allocates.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, largest);
            libc::mallopt(libc::M_TRIM_THRESHOLD, at_the_end);
            // Addresses only: memory is taken when it is touched. Keeps threads from giving back a part they have emptied.
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = keeps;
}

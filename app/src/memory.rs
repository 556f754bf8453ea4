//! How the system's allocator treats large blocks.

/// What the program is going to make and drop large blocks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeps {
    /// Drawing. Pieces of 32 MB and more go back to the system at once; of the others what lies together at the end of the
    /// memory of a thread stays, up to 256 MB on the main one and 64 MB on others.
    ForDrawing,
    /// Training, which makes and drops the same tensors in every update: all stay.
    ForTraining,
}

/// Keeps freed blocks in the program for what comes next, where the system would take them back and clear them again:
/// forty pictures of the starter took a twelfth longer without. To be called before other threads start.
pub(crate) fn keep_blocks(keeps: Keeps) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let (largest, at_the_end, ahead) = match keeps {
            // With more ahead, threads would keep all that a large model has left behind.
            Keeps::ForDrawing => (32 << 20, 256 << 20, 128 << 10),
            Keeps::ForTraining => (1 << 30, i32::MAX, 64 << 20),
        };
        #[expect(unsafe_code, reason = "a setting of the C library has no safe name")]
        // SAFETY: plain numbers, and no other thread allocates.
        unsafe {
            if libc::mallopt(libc::M_MMAP_THRESHOLD, largest) == 0 {
                // As much as glibc takes before 2.35.
                libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
            }
            libc::mallopt(libc::M_TRIM_THRESHOLD, at_the_end);
            libc::mallopt(libc::M_TOP_PAD, ahead);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = keeps;
}

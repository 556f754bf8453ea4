//! How the system's allocator treats large blocks.

/// How much of what the program has freed it keeps for what comes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keeps {
    /// What drawing makes and drops in every block: up to 256 MB, and no single piece of 32 MB. Without it the system takes
    /// memory back after every scale and clears it again for the next: a tenth of the time of the starter's picture.
    Some,
    /// All of it, for commands that only train, which make and drop the same large tensors in every update.
    All,
}

/// Keeps freed blocks in the program instead of giving them back to the system.
pub(crate) fn keep_blocks(keeps: Keeps) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let (largest, together, ahead) = match keeps {
            // The allocator takes no larger first number for threads that are not the main one.
            Keeps::Some => (32 << 20, 256 << 20, 0),
            Keeps::All => (1 << 30, i32::MAX, 64 << 20),
        };
        #[expect(unsafe_code, reason = "a setting of the C library has no safe name")]
        // SAFETY: plain numbers.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, largest);
            libc::mallopt(libc::M_TRIM_THRESHOLD, together);
            libc::mallopt(libc::M_TOP_PAD, ahead);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = keeps;
}

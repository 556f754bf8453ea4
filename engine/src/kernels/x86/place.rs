//! Where results go: memory that is written once, without zeros before.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A list of `count` values, all of which `write` writes.
///
/// # Safety
/// `write` must write every one of them.
#[inline(always)]
pub(in crate::kernels) unsafe fn written<T: Copy>(
    count: usize,
    write: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    write(&mut values.spare_capacity_mut()[..count]);
    // SAFETY: there is room for them, and the caller promises that they are written.
    unsafe { values.set_len(count) };
    values
}

/// Memory for the rows of a product. Whoever holds one is the only one to write there, or one of several that keep apart.
pub(in crate::kernels) struct Place<'a> {
    start: *mut f32,
    len: usize,
    of: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: it stands for a mutable borrow, which may go to another thread.
unsafe impl Send for Place<'_> {}
// SAFETY: all that a shared one gives is an address, and parts of it to those who promise to keep apart.
unsafe impl Sync for Place<'_> {}

impl<'a> From<&'a mut [MaybeUninit<f32>]> for Place<'a> {
    fn from(values: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            start: values.as_mut_ptr().cast(),
            len: values.len(),
            of: PhantomData,
        }
    }
}

impl<'a> From<&'a mut [f32]> for Place<'a> {
    fn from(values: &'a mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
            of: PhantomData,
        }
    }
}

impl Place<'_> {
    /// How many values there is room for.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The same from value `first` on.
    ///
    /// # Safety
    /// Of all parts at a time no two may write the same value.
    pub(super) unsafe fn part(&self, first: usize) -> Self {
        assert!(first <= self.len);
        Self {
            // SAFETY: inside, or one past the end.
            start: unsafe { self.start.add(first) },
            len: self.len - first,
            of: PhantomData,
        }
    }

    /// The address of value `index`.
    ///
    /// # Safety
    /// It must lie inside.
    pub(super) unsafe fn at(&self, index: usize) -> *mut f32 {
        // SAFETY: promised by the caller.
        unsafe { self.start.add(index) }
    }

    /// Writes zeros into the first `columns` values of `rows` rows, `stride` apart.
    pub(super) fn clear(&mut self, rows: usize, columns: usize, stride: usize) {
        assert!(columns <= stride && (rows == 0 || (rows - 1) * stride + columns <= self.len));
        for row in 0..rows {
            for column in 0..columns {
                // SAFETY: checked above.
                unsafe { self.start.add(row * stride + column).write(0.0) };
            }
        }
    }
}

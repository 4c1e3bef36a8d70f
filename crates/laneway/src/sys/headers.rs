//! The headers of a fetched record, read in place.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;

use rdkafka_sys::{rd_kafka_header_cnt, rd_kafka_headers_t};

use super::error::codes;
use super::raw;

/// Goes through the headers of one record: names and values.
#[derive(Debug, Clone)]
pub(crate) struct NativeHeaders<'a> {
    /// Null where the record has none.
    headers: *const rd_kafka_headers_t,
    next: usize,
    count: usize,
    record: PhantomData<&'a rd_kafka_headers_t>,
}

// SAFETY: it borrows headers that were parsed and are only read from then on, as a shared slice would.
unsafe impl Send for NativeHeaders<'_> {}
// SAFETY: as above.
unsafe impl Sync for NativeHeaders<'_> {}

impl NativeHeaders<'_> {
    /// # Safety
    /// `headers` are null or live and unchanged for the lifetime that is asked for.
    pub(super) unsafe fn new(headers: Option<NonNull<rd_kafka_headers_t>>) -> Self {
        let Some(headers) = headers else {
            return Self { headers: ptr::null(), next: 0, count: 0, record: PhantomData };
        };
        // SAFETY: by this function's contract.
        let count = unsafe { rd_kafka_header_cnt(headers.as_ptr()) };
        Self { headers: headers.as_ptr(), next: 0, count, record: PhantomData }
    }
}

impl<'a> Iterator for NativeHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live for 'a; the call is a look into an array (rdkafka_header.c). The name and
        // the value that it answers with belong to the headers; a null value is none, one of length 0 is
        // not null.
        unsafe {
            let code =
                raw::rd_kafka_header_get_all(self.headers, self.next, &mut name, &mut value, &mut size);
            if code != codes::NO_ERROR {
                self.next = self.count;
                return None;
            }
            self.next += 1;
            let name = slice::from_raw_parts(name.cast::<u8>(), name_length(name, value, size));
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), size));
            Some((name, value))
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for NativeHeaders<'_> {}

/// What stands before a header's name in memory (rdkafka_header.h, `rd_kafka_header_t`).
#[repr(C)]
struct BeforeName {
    serialized_size: usize,
    value_size: usize,
    name_size: usize,
    value: *const c_void,
}

/// How long a header's name is. No call says so, and a name may hold zero bytes: so it is read where
/// librdkafka keeps it, if what stands beside it there is what the call said. Else the name ends at its
/// first zero byte.
///
/// # Safety
/// `name`, `value` and `size` came from one call of `rd_kafka_header_get_all`.
unsafe fn name_length(name: *const c_char, value: *const c_void, size: usize) -> usize {
    // SAFETY: librdkafka allocates a header in one piece with its name at the end, at least 32 bytes in,
    // since headers exist (version 0.11.4); the name is terminated.
    unsafe {
        let before = name.cast::<u8>().sub(size_of::<BeforeName>()).cast::<BeforeName>().read_unaligned();
        if before.value == value && before.value_size == size {
            return before.name_size;
        }
        CStr::from_ptr(name).count_bytes()
    }
}

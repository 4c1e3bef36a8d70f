//! Native calls that take or return error codes, declared with plain numbers.
//!
//! The bindings make the codes a Rust `enum`. A code that is not in it (a newer broker sends one) would
//! then be undefined behaviour the moment it is read; as a number it is an error like any other.

use std::ffi::{c_char, c_int, c_void};

use rdkafka_sys::{
    rd_kafka_AdminOptions_t, rd_kafka_error_t, rd_kafka_event_t, rd_kafka_headers_t, rd_kafka_message_t,
    rd_kafka_metadata_t, rd_kafka_queue_t, rd_kafka_t, rd_kafka_topic_partition_list_t, rd_kafka_topic_t,
};

pub(super) type CommitCallback =
    Option<unsafe extern "C" fn(*mut rd_kafka_t, c_int, *mut rd_kafka_topic_partition_list_t, *mut c_void)>;

unsafe extern "C" {
    pub(super) fn rd_kafka_err2str(code: c_int) -> *const c_char;
    pub(super) fn rd_kafka_err2name(code: c_int) -> *const c_char;
    pub(super) fn rd_kafka_last_error() -> c_int;
    pub(super) fn rd_kafka_error_code(error: *const rd_kafka_error_t) -> c_int;
    pub(super) fn rd_kafka_fatal_error(rk: *mut rd_kafka_t, text: *mut c_char, size: usize) -> c_int;
    pub(super) fn rd_kafka_oauthbearer_set_token(
        rk: *mut rd_kafka_t,
        value: *const c_char,
        expires_ms: i64,
        principal: *const c_char,
        extensions: *mut *const c_char,
        extension_size: usize,
        text: *mut c_char,
        size: usize,
    ) -> c_int;
    pub(super) fn rd_kafka_poll_set_consumer(rk: *mut rd_kafka_t) -> c_int;
    pub(super) fn rd_kafka_event_error(event: *mut rd_kafka_event_t) -> c_int;
    pub(super) fn rd_kafka_subscribe(
        rk: *mut rd_kafka_t,
        topics: *const rd_kafka_topic_partition_list_t,
    ) -> c_int;
    pub(super) fn rd_kafka_unsubscribe(rk: *mut rd_kafka_t) -> c_int;
    pub(super) fn rd_kafka_assign(
        rk: *mut rd_kafka_t,
        partitions: *const rd_kafka_topic_partition_list_t,
    ) -> c_int;
    pub(super) fn rd_kafka_assignment(
        rk: *mut rd_kafka_t,
        partitions: *mut *mut rd_kafka_topic_partition_list_t,
    ) -> c_int;
    pub(super) fn rd_kafka_pause_partitions(
        rk: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
    ) -> c_int;
    pub(super) fn rd_kafka_resume_partitions(
        rk: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
    ) -> c_int;
    pub(super) fn rd_kafka_commit_queue(
        rk: *mut rd_kafka_t,
        offsets: *const rd_kafka_topic_partition_list_t,
        queue: *mut rd_kafka_queue_t,
        callback: CommitCallback,
        opaque: *mut c_void,
    ) -> c_int;
    pub(super) fn rd_kafka_committed(
        rk: *mut rd_kafka_t,
        partitions: *mut rd_kafka_topic_partition_list_t,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_get_watermark_offsets(
        rk: *mut rd_kafka_t,
        topic: *const c_char,
        partition: i32,
        low: *mut i64,
        high: *mut i64,
    ) -> c_int;
    pub(super) fn rd_kafka_metadata(
        rk: *mut rd_kafka_t,
        all_topics: c_int,
        only: *mut rd_kafka_topic_t,
        metadata: *mut *const rd_kafka_metadata_t,
        timeout_ms: c_int,
    ) -> c_int;
    pub(super) fn rd_kafka_AdminOptions_set_request_timeout(
        options: *mut rd_kafka_AdminOptions_t,
        timeout_ms: c_int,
        text: *mut c_char,
        size: usize,
    ) -> c_int;
    pub(super) fn rd_kafka_AdminOptions_set_broker(
        options: *mut rd_kafka_AdminOptions_t,
        broker: i32,
        text: *mut c_char,
        size: usize,
    ) -> c_int;
    pub(super) fn rd_kafka_message_headers(
        message: *const rd_kafka_message_t,
        headers: *mut *mut rd_kafka_headers_t,
    ) -> c_int;
    pub(super) fn rd_kafka_header_get_all(
        headers: *const rd_kafka_headers_t,
        index: usize,
        name: *mut *const c_char,
        value: *mut *const c_void,
        size: *mut usize,
    ) -> c_int;
}

//! The properties a client is made with.

use std::ffi::CString;
use std::fmt;
use std::ptr::{self, NonNull};

use rdkafka_sys::{
    rd_kafka_conf_destroy, rd_kafka_conf_new, rd_kafka_conf_res_t, rd_kafka_conf_set, rd_kafka_conf_t,
};

/// Properties, each checked as it is set.
pub(crate) struct Config(NonNull<rd_kafka_conf_t>);

// SAFETY: the object belongs to this value alone, and nothing in it is bound to a thread.
unsafe impl Send for Config {}

/// A property was refused. Says nothing of its value, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConfigRefused {
    /// The client has no such property. Else the value is not one that it takes.
    pub(crate) unknown: bool,
}

impl Config {
    pub(crate) fn new() -> Self {
        // SAFETY: the call needs nothing.
        let conf = unsafe { rd_kafka_conf_new() };
        match NonNull::new(conf) {
            Some(conf) => Self(conf),
            None => unreachable!("librdkafka ends the process when it is out of memory"),
        }
    }

    /// Sets a property, with librdkafka's name of it.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigRefused> {
        let Ok(key) = CString::new(key) else { return Err(ConfigRefused { unknown: true }) };
        let Ok(value) = CString::new(value) else { return Err(ConfigRefused { unknown: false }) };
        // SAFETY: the configuration is live and ours, both texts are terminated, and no error text is asked
        // for, as it would hold the value.
        let result =
            unsafe { rd_kafka_conf_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr(), ptr::null_mut(), 0) };
        match result {
            rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            rd_kafka_conf_res_t::RD_KAFKA_CONF_UNKNOWN => Err(ConfigRefused { unknown: true }),
            rd_kafka_conf_res_t::RD_KAFKA_CONF_INVALID => Err(ConfigRefused { unknown: false }),
        }
    }

    pub(super) fn as_ptr(&self) -> *mut rd_kafka_conf_t {
        self.0.as_ptr()
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: the configuration is ours: where a client took it over, this value was forgotten.
        unsafe { rd_kafka_conf_destroy(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Config")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_refused_as_unknown_or_for_its_value() {
        let mut config = Config::new();
        assert_eq!(config.set("client.id", "a"), Ok(()));
        assert_eq!(config.set("no.such.thing", "a"), Err(ConfigRefused { unknown: true }));
        assert_eq!(config.set("session.timeout.ms", "soon"), Err(ConfigRefused { unknown: false }));
        assert_eq!(config.set("sasl.password", "a\0b"), Err(ConfigRefused { unknown: false }));
    }
}

//! A record as one line of JSON, with the names that `kcat -J` uses. Written by hand: it is the command's
//! hot path, and bytes that are not UTF-8 have a form of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use laneway::{Record, Timestamp};

/// The record's line, its end included.
pub(crate) fn line(record: &Record) -> Vec<u8> {
    let mut line = Vec::with_capacity(256 + record.payload().map_or(0, <[u8]>::len));
    write_line(&mut line, record);
    line
}

fn write_line(out: &mut Vec<u8>, record: &Record) {
    out.extend_from_slice(b"{\"topic\":");
    string(out, record.topic());
    out.extend_from_slice(b",\"partition\":");
    number(out, i64::from(record.partition()));
    out.extend_from_slice(b",\"offset\":");
    number(out, record.offset());
    let (kind, time) = match record.timestamp() {
        Timestamp::Create(time) => ("create", Some(time)),
        Timestamp::LogAppend(time) => ("logappend", Some(time)),
        _ => ("unknown", None),
    };
    out.extend_from_slice(b",\"tstype\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"ts\":");
    match time {
        Some(time) => number(out, time),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"headers\":[");
    for (index, header) in record.headers().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        header_part(out, header.name);
        out.push(b',');
        match header.value {
            Some(value) => header_part(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b']');
    field(out, "key", record.key());
    field(out, "payload", record.payload());
    out.extend_from_slice(b"}\n");
}

/// `"name":"text"`, `"name":null`, or `"name_base64":"..."` where the bytes are not UTF-8.
fn field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(std::str::from_utf8) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            string(out, text);
        }
        Some(Err(_)) => {
            out.extend_from_slice(b"_base64\":");
            base64_string(out, bytes.unwrap_or_default());
        }
    }
}

fn header_part(out: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => string(out, text),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            base64_string(out, bytes);
            out.push(b'}');
        }
    }
}

fn base64_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain_from = 0;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain_from..index]);
        plain_from = index + 1;
        if escape.is_empty() {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xf)]);
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

fn number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use laneway::OwnedRecord;
    use serde_json::{Value, json};

    use super::*;

    fn line(record: OwnedRecord) -> String {
        let mut out = Vec::new();
        write_line(&mut out, &Record::from_owned(record));
        String::from_utf8(out).unwrap()
    }

    fn orders(offset: i64) -> OwnedRecord {
        OwnedRecord { topic: "orders".into(), partition: 3, offset, ..OwnedRecord::default() }
    }

    #[test]
    fn a_record_looks_as_the_contract_has_it() {
        let mut record = orders(42);
        record.timestamp = Timestamp::Create(1_732_363_185_123);
        record.headers = vec![(b"k".to_vec(), Some(b"v".to_vec()))];
        record.key = Some(b"a".to_vec());
        record.payload = Some(b"...".to_vec());
        assert_eq!(
            line(record),
            "{\"topic\":\"orders\",\"partition\":3,\"offset\":42,\"tstype\":\"create\",\"ts\":1732363185123,\
             \"headers\":[\"k\",\"v\"],\"key\":\"a\",\"payload\":\"...\"}\n"
        );
    }

    #[test]
    fn what_is_absent_is_null_and_what_is_empty_is_empty() {
        let mut record = orders(0);
        record.payload = Some(Vec::new());
        record.headers = vec![(b"none".to_vec(), None)];
        let value: Value = serde_json::from_str(&line(record)).unwrap();
        assert_eq!(
            value,
            json!({"topic":"orders","partition":3,"offset":0,"tstype":"unknown","ts":null,
                   "headers":["none",null],"key":null,"payload":""})
        );
    }

    #[test]
    fn bytes_that_are_not_utf_8_stand_in_base64() {
        let mut record = orders(1);
        record.key = Some(vec![0xff]);
        record.payload = Some(vec![0xfe, 0xed]);
        record.headers = vec![(vec![0xfd], Some(vec![0xfc]))];
        let value: Value = serde_json::from_str(&line(record)).unwrap();
        assert_eq!(value["key_base64"], "/w==");
        assert_eq!(value["payload_base64"], "/u0=");
        assert_eq!(value["headers"], json!([{"base64":"/Q=="},{"base64":"/A=="}]));
        assert!(value.get("key").is_none() && value.get("payload").is_none());
    }

    #[test]
    fn every_character_survives() {
        let text: String = (0u32..0x500).chain(0x1_f600..0x1_f640).filter_map(char::from_u32).collect();
        let mut record = orders(i64::MAX);
        record.payload = Some(text.clone().into_bytes());
        let line = line(record);
        assert_eq!(line.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["payload"], Value::String(text));
        assert_eq!(value["offset"], i64::MAX);
    }
}

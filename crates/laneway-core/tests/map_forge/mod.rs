//! Writes maps of any content with a checksum that matches, from the format's description alone: what
//! somebody would write who means harm.

use laneway_core::map::Place;

/// A map with this header (`0` of one bit, or `100` to `111`) and these bits behind the checksum, as Base64 or
/// dense text.
pub(crate) fn forge(header: &[bool], payload: &[bool], place: Place<'_>, base: i64, dense: bool) -> String {
    let mut payload = payload.to_vec();
    while payload.last() == Some(&false) {
        payload.pop();
    }
    let (width, polynomial) = match header.len() {
        1 => (17, 0x1_685B),
        _ if header == [true, false, false] || payload.len() < 64 => (21, 0x10_2899),
        _ => (32, 0x1EDC_6F41),
    };
    let code = header.iter().fold(0, |code, bit| code << 1 | u8::from(*bit));
    let mut sealed: Vec<u8> = place.group.bytes().chain([0xFF]).chain(place.topic.bytes()).collect();
    sealed.extend([0xFF, code]);
    sealed.extend(place.partition.to_be_bytes());
    sealed.extend(base.to_be_bytes());
    let mut sealed: Vec<bool> =
        sealed.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    sealed.extend(&payload);
    sealed.extend(std::iter::repeat_n(false, payload.len().next_multiple_of(64) - payload.len()));
    let mut crc = (1u64 << width) - 1;
    for bit in sealed {
        let top = (crc >> (width - 1) & 1 == 1) != bit;
        crc = crc << 1 & ((1 << width) - 1) ^ if top { polynomial } else { 0 };
    }
    let mut bits = header.to_vec();
    bits.extend((0..width).rev().map(|bit| crc >> bit & 1 == 1));
    bits.extend(payload);
    while bits.last() == Some(&false) {
        bits.pop();
    }
    bits.resize(bits.len().max(3), false);
    let number = |bits: &[bool], width: usize| {
        (0..width).fold(0u32, |number, at| number << 1 | u32::from(bits.get(at) == Some(&true)))
    };
    let mut text = String::from(['!', '$', '&', ';', '>', '^', '|', '~'][number(&bits[..3], 3) as usize]);
    for symbol in bits[3..].chunks(if dense { 15 } else { 6 }) {
        let symbol = number(symbol, if dense { 15 } else { 6 });
        let character = match symbol {
            0..0x1800 if dense => 0x3400 + symbol,
            0x1800..0x6800 if dense => 0x4E00 - 0x1800 + symbol,
            _ if dense => 0xAC00 - 0x6800 + symbol,
            0..26 => 'A' as u32 + symbol,
            26..52 => 'a' as u32 + symbol - 26,
            52..62 => '0' as u32 + symbol - 52,
            62 => '+' as u32,
            _ => '/' as u32,
        };
        text.extend(char::from_u32(character));
    }
    text
}

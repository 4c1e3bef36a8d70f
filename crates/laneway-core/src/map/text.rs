//! How the bits become text. The first character carries three bits and says that a map is Laneway's; each
//! further one carries 6 bits (the alphabet of Base64) or 15.

use super::Text;
use super::bits::Bits;

/// Bits that the first character carries.
const FIRST: usize = 3;

/// None of them is in Base64, begins JSON or XML, or needs quoting in either.
const MARKERS: [u8; 8] = *b"!$&;>^|~";

const BASE64: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// 32,768 characters: ideographs of extension A, unified ideographs, and Hangul syllables. All have been
/// assigned since Unicode 3.0, lie in the basic plane (one UTF-16 unit, three bytes of UTF-8 each), and are
/// their own normal form (NFC, NFKC).
const DENSE: [(u32, u32); 3] = [(0x3400, 0x1800), (0x4E00, 0x5000), (0xAC00, 0x1800)];

impl Text {
    fn bits_per_unit(self) -> usize {
        match self {
            Self::Base64 => 6,
            Self::Dense => 15,
        }
    }

    /// How many bits fit into `units`.
    pub(super) fn room(self, units: usize) -> usize {
        units.checked_sub(1).map_or(0, |more| FIRST + more.min(1 << 26) * self.bits_per_unit())
    }

    /// How many units so many bits take.
    pub(super) fn units(self, bits: usize) -> usize {
        1 + bits.saturating_sub(FIRST).div_ceil(self.bits_per_unit())
    }

    pub(super) fn write(self, bits: &Bits) -> String {
        let units = self.units(bits.len());
        let mut text = String::with_capacity(units * 3);
        text.push(char::from(MARKERS[bits.get(0, FIRST) as usize & 7]));
        let each = self.bits_per_unit();
        let symbols = (1..units).map(|unit| bits.get(FIRST + (unit - 1) * each, each));
        match self {
            Self::Base64 => text.extend(symbols.map(|symbol| char::from(BASE64[symbol as usize & 63]))),
            Self::Dense => text.extend(symbols.filter_map(|symbol| dense(symbol as u32))),
        }
        text
    }
}

/// What `text` says. `Err(false)`: it is not a map at all; `Err(true)`: it was one.
pub(super) fn read(text: &str) -> Result<Bits, bool> {
    let mut characters = text.chars();
    let marker = characters.next().and_then(|first| MARKERS.iter().position(|m| char::from(*m) == first));
    let marker = marker.ok_or(false)?;
    let mut rest = characters.clone().peekable();
    let kind = if rest.peek().is_some_and(|next| !next.is_ascii()) { Text::Dense } else { Text::Base64 };
    let each = kind.bits_per_unit();
    let mut bits = Bits::with_capacity(FIRST + text.len() * 6);
    bits.push(marker as u64, FIRST);
    let mut last = 1;
    for character in characters {
        last = match kind {
            Text::Base64 => base64_value(character),
            Text::Dense => dense_value(character),
        }
        .ok_or(true)?;
        bits.push(u64::from(last), each);
    }
    // There is one way to write a map: no unit at the end without a bit.
    if last == 0 {
        return Err(true);
    }
    bits.strip();
    Ok(bits)
}

fn dense(symbol: u32) -> Option<char> {
    let mut rest = symbol;
    for (first, len) in DENSE {
        if rest < len {
            return char::from_u32(first + rest);
        }
        rest -= len;
    }
    None
}

fn dense_value(character: char) -> Option<u32> {
    let mut before = 0;
    for (first, len) in DENSE {
        match u32::from(character).checked_sub(first) {
            Some(value) if value < len => return Some(before + value),
            _ => before += len,
        }
    }
    None
}

fn base64_value(character: char) -> Option<u32> {
    let value = match character {
        'A'..='Z' => u32::from(character) - u32::from('A'),
        'a'..='z' => u32::from(character) - u32::from('a') + 26,
        '0'..='9' => u32::from(character) - u32::from('0') + 52,
        '+' => 62,
        '/' => 63,
        _ => return None,
    };
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_symbol_is_a_character_of_its_own_and_comes_back() {
        for symbol in 0..1 << 15 {
            let character = dense(symbol).unwrap_or('\0');
            assert_eq!((dense_value(character), character.len_utf16()), (Some(symbol), 1));
        }
        for (value, character) in BASE64.iter().enumerate() {
            assert_eq!(base64_value(char::from(*character)), Some(value as u32));
        }
    }
}

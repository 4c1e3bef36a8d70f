//! The checksums: CRC-17 and CRC-21 of CAN FD (ISO 11898-1), and CRC-32C (RFC 3720), with all ones at the
//! start and no reflection.

/// One of the three.
#[derive(Debug)]
pub(super) struct Crc {
    pub(super) width: usize,
    tables: [[u32; 256]; 4],
}

pub(super) static CRC_17: Crc = Crc::new(17, 0x1_685B);
pub(super) static CRC_21: Crc = Crc::new(21, 0x10_2899);
pub(super) static CRC_32: Crc = Crc::new(32, 0x1EDC_6F41);

impl Crc {
    /// Kept at the top of 32 bits, so that all widths are one loop.
    const fn new(width: usize, polynomial: u32) -> Self {
        let polynomial = polynomial << (32 - width);
        let mut tables = [[0; 256]; 4];
        let mut byte = 0;
        while byte < 256 {
            let mut state = (byte as u32) << 24;
            let mut bit = 0;
            while bit < 8 {
                state = if state >> 31 == 1 { (state << 1) ^ polynomial } else { state << 1 };
                bit += 1;
            }
            tables[0][byte] = state;
            byte += 1;
        }
        let mut table = 1;
        while table < 4 {
            let mut byte = 0;
            while byte < 256 {
                let before: u32 = tables[table - 1][byte];
                tables[table][byte] = (before << 8) ^ tables[0][(before >> 24) as usize];
                byte += 1;
            }
            table += 1;
        }
        Self { width, tables }
    }

    pub(super) fn start(&self) -> u32 {
        u32::MAX << (32 - self.width)
    }

    pub(super) fn bytes(&self, state: u32, bytes: &[u8]) -> u32 {
        bytes
            .iter()
            .fold(state, |state, byte| (state << 8) ^ self.tables[0][usize::from((state >> 24) as u8 ^ byte)])
    }

    /// The same for the eight bytes of a word, the highest first.
    pub(super) fn word(&self, state: u32, word: u64) -> u32 {
        self.four(self.four(state, (word >> 32) as u32), word as u32)
    }

    pub(super) fn end(&self, state: u32) -> u32 {
        state >> (32 - self.width)
    }

    #[inline]
    fn four(&self, state: u32, bytes: u32) -> u32 {
        let [a, b, c, d] = (state ^ bytes).to_be_bytes().map(usize::from);
        self.tables[3][a] ^ self.tables[2][b] ^ self.tables[1][c] ^ self.tables[0][d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_known_ones() {
        // Bit by bit, as the standards have it.
        for (crc, polynomial) in [(&CRC_17, 0x1_685Bu64), (&CRC_21, 0x10_2899), (&CRC_32, 0x1EDC_6F41)] {
            let mut plain = (1u64 << crc.width) - 1;
            for byte in *b"123456789-abcdef" {
                for bit in (0..8).rev() {
                    let top = (plain >> (crc.width - 1)) & 1 ^ u64::from(byte >> bit & 1);
                    plain = (plain << 1) & ((1 << crc.width) - 1) ^ (top * polynomial);
                }
            }
            let bytes = crc.bytes(crc.start(), b"123456789-abcdef");
            let words = crc.word(crc.start(), u64::from_be_bytes(*b"12345678"));
            let words = crc.word(words, u64::from_be_bytes(*b"9-abcdef"));
            assert_eq!((u64::from(crc.end(bytes)), bytes), (plain, words));
        }
    }
}

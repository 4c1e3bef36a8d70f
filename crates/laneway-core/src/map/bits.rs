//! Strings of bits, the highest bit of the first word first. Beyond their end there are only zeros.

/// Bits that are read and written from the front.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub(super) fn from_words(words: Vec<u64>) -> Self {
        let len = words.len() * 64;
        Self { words, len }
    }

    pub(super) fn with_capacity(bits: usize) -> Self {
        Self { words: Vec::with_capacity(bits / 64 + 2), len: 0 }
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Appends the lowest `count` bits of `value`, at most 64.
    #[inline]
    pub(super) fn push(&mut self, value: u64, count: usize) {
        if count == 0 {
            return;
        }
        let value = value << (64 - count);
        let used = self.len % 64;
        match self.words.last_mut() {
            Some(last) if used != 0 => {
                *last |= value >> used;
                if used + count > 64 {
                    self.words.push(value << (64 - used));
                }
            }
            _ => self.words.push(value),
        }
        self.len += count;
    }

    /// `count` bits from `at` on, at most 64 of them.
    #[inline]
    pub(super) fn get(&self, at: usize, count: usize) -> u64 {
        if count == 0 {
            return 0;
        }
        let (word, used) = (at / 64, at % 64);
        let first = self.words.get(word).copied().unwrap_or(0) << used;
        let second = self.words.get(word + 1).copied().unwrap_or(0);
        let both = if used == 0 { first } else { first | (second >> (64 - used)) };
        both >> (64 - count)
    }

    /// The bits from `at` on.
    pub(super) fn tail(&self, at: usize) -> Self {
        let words = (at..self.len).step_by(64).map(|at| self.get(at, 64)).collect();
        Self { words, len: self.len.saturating_sub(at) }
    }

    /// Behind the last bit that is set.
    pub(super) fn significant(&self) -> usize {
        let last = self.words.iter().rposition(|word| *word != 0);
        last.map_or(0, |word| word * 64 + 64 - self.words[word].trailing_zeros() as usize)
    }

    /// Drops the zeros at the end.
    pub(super) fn strip(&mut self) {
        self.len = self.significant();
        self.words.truncate(self.len.div_ceil(64));
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}
